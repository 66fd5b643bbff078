import pytest
import torch
import torch.nn.functional as F

from gnnrec.nn.audio import LogMelCNN, LogMelLSTM

NETWORKS = [LogMelCNN, LogMelLSTM]


@pytest.mark.parametrize("network", NETWORKS)
def test_padding_has_no_influence(network):
    torch.manual_seed(0)
    encoder = network(bands=8, dim=5)
    sounds = [torch.randn(frames, 8) for frames in (12, 5, 1)]
    padded = torch.full((3, 20, 8), 7.0)
    for row, sound in zip(padded, sounds, strict=True):
        row[: len(sound)] = sound
    together = encoder(padded, torch.tensor([12, 5, 1]))
    alone = torch.cat([encoder(sound[None], torch.tensor([len(sound)])) for sound in sounds])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.shape == (3, 5)


@pytest.mark.parametrize("network", NETWORKS)
def test_learns_whether_a_sound_rises_or_falls(network):
    """The mean spectrum is the same in both classes: only the order of frames tells them apart."""
    torch.manual_seed(0)
    encoder = network(bands=6, dim=2)

    def batch(num: int) -> tuple[torch.Tensor, torch.Tensor]:
        falls = torch.randint(2, (num,))
        rising = torch.eye(6)[torch.arange(24) % 6].expand(num, 24, 6)
        return torch.where(falls[:, None, None].bool(), rising.flip(1), rising) + 0.3 * torch.randn(num, 24, 6), falls

    optimiser = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(100):
        sounds, label = batch(32)
        optimiser.zero_grad()
        F.cross_entropy(encoder(sounds, torch.full((32,), 24)), label).backward()
        optimiser.step()
    sounds, label = batch(200)
    accuracy = (encoder(sounds, torch.full((200,), 24)).argmax(dim=1) == label).float().mean()
    assert accuracy > 0.9


@pytest.mark.parametrize("network", NETWORKS)
def test_reset_draws_new_weights(network):
    encoder = network(bands=8, dim=5)
    before = [parameter.clone() for parameter in encoder.parameters()]
    torch.manual_seed(3)
    encoder.reset_parameters()
    changed = [not torch.equal(old, new) for old, new in zip(before, encoder.parameters(), strict=True)]
    assert sum(changed) >= 4
