import numpy as np
import pytest
import soundfile
import torch

from gnnrec.errors import MediaError
from gnnrec.modalities.audio import _refuse_cut_ogg, read_sound, sound_seconds
from gnnrec.modalities.encoder import resolve


def noise(seconds: float, rate: int = 16_000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize("name", ["s.wav", "s.flac", "s.ogg"])
def test_reading_resamples_and_keeps_the_pitch(write_sound, name):
    wave = read_sound(write_sound(name, hertz=1000, seconds=1.0, rate=44_100), 16_000)
    assert abs(len(wave) - 16_000) <= 1
    assert wave.dtype == np.float32
    assert abs(int(np.abs(np.fft.rfft(wave)).argmax()) - 1000) <= 1


def test_channels_are_averaged(tmp_path):
    left, right = noise(0.2, seed=1), noise(0.2, seed=2)
    soundfile.write(tmp_path / "s.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "s.wav", 16_000), (left + right) / 2, atol=1e-6)


def test_only_the_beginning_is_read(write_sound):
    path = write_sound("s.wav", seconds=1.0)
    assert len(read_sound(path, 16_000, max_seconds=0.25)) == 4_000
    assert sound_seconds(path) == 1.0
    assert sound_seconds(path.with_name("absent.wav")) == 0.0


def test_unreadable_sounds(tmp_path, write_sound):
    cut = write_sound("cut.wav", seconds=1.0)
    cut.write_bytes(cut.read_bytes()[:-1000])
    (tmp_path / "junk.ogg").write_bytes(b"OggS but no more")
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), 16_000)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.full(1000, np.nan), 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "whole.mp3", noise(4.0), 16_000)
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    for name, share in {"cut.ogg": 0.5, "nearly.ogg": 0.99, "cut.opus": 0.5}.items():
        whole = tmp_path / f"whole.{name}"
        soundfile.write(whole, noise(4.0), 16_000, format="OGG", subtype="OPUS" if "opus" in name else "VORBIS")
        assert len(read_sound(whole, 16_000)) == pytest.approx(64_000, rel=0.01)
        (tmp_path / name).write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    soundfile.write(tmp_path / "instant.wav", np.ones(1), 48_000)
    for name, reason in {
        "cut.mp3": "cut short", "cut.ogg": "its last page", "nearly.ogg": "its last page", "cut.opus": "its last page",
        "instant.wav": "shorter than one sample",
        "cut.wav": "cut short", "junk.ogg": "not a readable sound", "silent.wav": "silent", "empty.wav": "empty",
        "nan.wav": "not finite", "absent.wav": "No such file",
    }.items():  # fmt: skip
        with pytest.raises(MediaError, match=reason):
            read_sound(tmp_path / name, 16_000)


def test_an_ogg_sound_may_end_in_an_empty_page_or_a_tag(tmp_path):
    soundfile.write(tmp_path / "whole.ogg", noise(1.0), 16_000)
    content = (tmp_path / "whole.ogg").read_bytes()
    tagged = tmp_path / "tagged.ogg"
    tagged.write_bytes(content + b"TAG" + bytes(70_000))
    assert len(read_sound(tagged, 16_000)) == pytest.approx(16_000, rel=0.01)
    last = content.rfind(b"OggS")
    empty_page = content[last : last + 26] + b"\0"  # the same head, and no parts
    _refuse_cut_ogg(content[:last] + empty_page)
    with pytest.raises(ValueError, match="its last page"):
        _refuse_cut_ogg(content[:last])


@pytest.fixture(scope="module")
def wav2vec2(save_model):
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
        conv_stride=(10, 16), conv_kernel=(10, 16), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    return save_model(Wav2Vec2Model(config), Wav2Vec2FeatureExtractor())


def test_wav2vec2_averages_its_hidden_states(wav2vec2):
    from transformers import AutoFeatureExtractor, AutoModel

    encoder = resolve("audio", wav2vec2)
    sounds = [noise(0.5), noise(0.3, seed=1), noise(0.01, seed=2)]
    vectors = encoder.encode(sounds)
    inputs = AutoFeatureExtractor.from_pretrained(wav2vec2)(sounds[1], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(wav2vec2)(**inputs).last_hidden_state[0].mean(dim=0)
    np.testing.assert_allclose(vectors[1], expected.numpy(), atol=1e-5)
    assert np.isfinite(vectors).all()
    assert encoder.encode([]).shape == (0, 16)


def test_whisper_averages_over_the_sound_and_not_over_its_padding(save_model):
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=20, num_mel_bins=8, max_source_positions=100,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    folder = save_model(WhisperModel(config), WhisperFeatureExtractor(feature_size=8, chunk_length=2))
    encoder = resolve("audio", folder)
    assert encoder.card.dim == 16
    from transformers import AutoFeatureExtractor, AutoModel

    sound = noise(0.5)
    inputs = AutoFeatureExtractor.from_pretrained(folder)(sound, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).get_encoder()(**inputs).last_hidden_state[0]
    np.testing.assert_allclose(encoder.encode([sound])[0], hidden[:25].mean(dim=0).numpy(), atol=1e-5)


def clap_folder(save_model) -> str:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    torch.manual_seed(0)
    config = ClapConfig(
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
                     "vocab_size": 20},
        audio_config={"patch_embeds_hidden_size": 8, "hidden_size": 16, "depths": [1, 1], "num_attention_heads": [1, 2],
                      "num_hidden_layers": 2, "spec_size": 64, "num_mel_bins": 16, "enable_fusion": False,
                      "window_size": 4, "patch_size": 4, "patch_stride": [4, 4]},
        projection_dim=8,
    )  # fmt: skip
    extractor = ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="rand_trunc", fft_window_size=2048)
    return save_model(ClapModel(config), extractor)


def test_clap_averages_windows_instead_of_choosing_one_at_random(save_model):
    encoder = resolve("audio", clap_folder(save_model))
    assert encoder.sampling_rate == 48_000
    first, second = noise(1.0, 48_000), noise(0.7, 48_000, seed=1)
    both = encoder.encode([np.concatenate([first, second])])[0]
    np.testing.assert_allclose(both, encoder.encode([first, second]).mean(axis=0), atol=1e-5)
    assert encoder.card.dim == 8


def test_what_is_left_behind_the_last_window_does_not_count_as_a_whole_one(save_model):
    encoder = resolve("audio", clap_folder(save_model))
    sound = noise(1.49, 48_000)
    np.testing.assert_array_equal(encoder.encode([sound]), encoder.encode([sound[:48_000]]))
    half = encoder.encode([sound[:24_000]])
    assert np.linalg.norm(half) == pytest.approx(1, abs=1e-5)  # alone it is all there is


def test_audio_spectrogram_transformer(save_model):
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=100,
        num_mel_bins=32,
    )  # fmt: skip
    encoder = resolve("audio", save_model(ASTModel(config), ASTFeatureExtractor(num_mel_bins=32, max_length=100)))
    assert np.isfinite(encoder.encode([noise(1.0)[:1], noise(1.0)])).all()  # of whatever length
    one, two = noise(1.0), noise(0.5, seed=1)
    both = encoder.encode([np.concatenate([one, two])])[0]
    np.testing.assert_allclose(both, encoder.encode([one, two]).mean(axis=0), atol=1e-5)
