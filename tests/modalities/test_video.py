from fractions import Fraction

import av
import numpy as np
import pytest

from gnnrec.errors import EncoderError, MediaError
from gnnrec.modalities.features import EncoderCard
from gnnrec.modalities.video import VideoEncoder, read_frames

RED, GREEN, BLUE = (220, 20, 20), (20, 200, 20), (20, 20, 220)


class MeanColour:
    modality = "image"
    card = EncoderCard("mean-colour", "image", 3, preprocessing={"scale": "255"})

    def encode(self, batch):
        assert len(batch) <= 32
        return np.array([np.asarray(picture).mean(axis=(0, 1)) / 255 for picture in batch], dtype=np.float32)


def colours(frames) -> list[int]:
    """Which of red, green and blue each frame shows."""
    return [int(np.asarray(frame).mean(axis=(0, 1)).argmax()) for frame in frames]


def test_frames_are_evenly_spaced(write_video):
    path = write_video("clip.mp4", [RED, GREEN, BLUE])
    assert colours(read_frames(path, 6)) == [0, 0, 1, 1, 2, 2]
    assert colours(read_frames(path, 1)) == [1]  # the middle


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_frames_are_counted_from_where_the_clip_starts(write_video, name):
    path = write_video(name, [RED, GREEN, BLUE], start=40)
    assert colours(read_frames(path, 6)) == [0, 0, 1, 1, 2, 2]


def test_a_late_start_that_only_the_header_of_an_avi_states(write_video):
    path = write_video("clip.avi", [RED, GREEN, BLUE])
    content = bytearray(path.read_bytes())
    start = content.index(b"strh") + 8 + 28  # behind name and size of the chunk: `dwStart`, in frames
    content[start : start + 4] = (40).to_bytes(4, "little")
    path.write_bytes(content)
    assert colours(read_frames(path, 6)) == [0, 0, 1, 1, 2, 2]


def test_a_clip_without_an_index_is_decoded_from_its_key_frames(write_video):
    path = write_video("clip.ts", [RED, GREEN, BLUE])
    assert colours(read_frames(path, 6)) == [0, 0, 1, 1, 2, 2]


def test_a_clock_of_milliseconds_may_round_the_time_of_a_frame_down(write_video):
    """Matroska has such a clock. The last green frame is wanted, at 19/30 of a second: for the clip that is 0.633."""
    path = write_video("clip.mkv", [RED, GREEN, BLUE], rate=30)
    assert colours(read_frames(path, 15)) == [0] * 5 + [1] * 5 + [2] * 5


def test_more_frames_than_the_clip_has(write_video):
    assert len(read_frames(write_video("clip.mp4", [RED]), 40)) == 40


def test_damaged_absent_and_soundless_clips(tmp_path, write_video, write_sound):
    path = write_video("clip.mp4", [RED])
    (tmp_path / "cut.mp4").write_bytes(path.read_bytes()[:200])
    for bad in (tmp_path / "cut.mp4", tmp_path / "absent.mp4"):
        with pytest.raises(MediaError, match="not a readable video"):
            read_frames(bad, 2)
    with pytest.raises(MediaError, match="holds no pictures"):
        read_frames(write_sound("s.wav"), 2)


@pytest.mark.parametrize("name", ["show.mp4", "show.mkv", "show.avi"])
def test_the_last_picture_of_a_slide_show_lasts_as_long_as_the_others(write_video, name):
    path = write_video(name, [RED], rate=Fraction(1, 5))  # ten pictures of five seconds each
    assert len(read_frames(path, 40)) == 40


@pytest.mark.parametrize("name", ["clip.mkv", "clip.mp4"])
def test_sound_may_last_longer_than_the_pictures(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        stream, sound = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=16_000)
        stream.width = stream.height = 64
        for colour in (RED,) * 20:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), colour, np.uint8), "rgb24")))
        container.mux(stream.encode())
        for second in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16_000, second * 16_000
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    assert colours(read_frames(tmp_path / name, 8)) == [0] * 8


@pytest.mark.parametrize("name", ["clip.mkv", "clip.avi", "clip.mp4"])
def test_a_clip_that_is_cut_short_is_not_taken_for_a_whole_one(write_video, name):
    path = write_video(name, [RED, GREEN, BLUE] * 4)
    assert colours(read_frames(path, 12)) == [0, 1, 2] * 4
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MediaError, match=r"the video is cut short|not a readable video"):
        read_frames(path, 12)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+std"])
def test_pooling(write_video, pooling):
    clips = [read_frames(write_video(f"{i}.mp4", colours), 20) for i, colours in enumerate([[RED, BLUE], [GREEN]])]
    vectors = VideoEncoder(MeanColour(), 20, pooling).encode(clips)
    each = np.stack(
        [np.concatenate([MeanColour().encode(clip[:10]), MeanColour().encode(clip[10:])]) for clip in clips]
    )
    expected = {
        "mean": each.mean(axis=1),
        "max": each.max(axis=1),
        "mean+std": np.concatenate([each.mean(axis=1), each.std(axis=1)], axis=1),
    }[pooling]
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert VideoEncoder(MeanColour(), 20, pooling).encode([]).shape == (0, expected.shape[1])


def test_card_tells_frames_and_pooling():
    card = VideoEncoder(MeanColour(), 4, "mean+std").card
    assert (card.name, card.modality, card.dim) == ("mean-colour", "video", 6)
    assert card.preprocessing == {"scale": "255", "frames": "4", "frame_pooling": "mean+std"}
    with pytest.raises(EncoderError, match="not 0 and 'mean'"):
        VideoEncoder(MeanColour(), 0)
