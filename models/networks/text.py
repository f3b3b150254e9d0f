"""Networks for texts: an embedding, and the part behind it, at whose input words are attributed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WORDS = 5_000
EMBEDDING = 32


class TextModel(nn.Module):
    """An embedding and what is behind it.

    embedding  token ids [B, L] to vectors [B, L, E]
    behind     vectors [B, L, E] to logits [B, C]: the model that is attributed
    """

    def __init__(self, embedding: nn.Module, behind: nn.Module) -> None:
        super().__init__()
        self.embedding = embedding
        self.behind = behind

    def forward(self, tokens: Tensor) -> Tensor:
        """Map token ids [B, L] to logits [B, C]."""
        logits: Tensor = self.behind(self.embedding(tokens))
        return logits


def embedding(words: int) -> nn.Embedding:
    """Vectors of 32 for words; token 0, no word, has zeros, which stay zeros in training.

    The others begin small, as in the library that the paper used: large random vectors let a network learn each word at
    each place by heart.
    """
    made = nn.Embedding(words, EMBEDDING, padding_idx=0)
    with torch.no_grad():
        made.weight.uniform_(-0.05, 0.05)[0] = 0
    return made


class VisibleLSTM(nn.Module):
    """A long short-term memory whose gates are ordinary operations: [B, L, E] to the last state [B, H].

    z_t = W x_t + U h_{t-1} + b, its quarters i, f, g, o; c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g);
    h_t = sigmoid(o) tanh(c_t), from c = h = 0. What torch.nn.LSTM computes, whose fused kernel hides the gates from
    methods that change the backward pass of an operation. While training, the fused kernel does the same faster.

    Source: Hochreiter and Schmidhuber 1997.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.input = nn.Linear(inputs, 4 * units)
        self.state = nn.Linear(units, 4 * units, bias=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(units**-0.5), units**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences [B, L, E] to the state after the last step [B, H]."""
        if self.training:
            return self.fused(x)
        n = self.units
        memory = state = None
        for step in range(x.shape[1]):
            z = self.input(x[:, step])
            if state is not None:
                z = z + self.state(state)
            i, f, o = (torch.sigmoid(z[..., k * n : (k + 1) * n]) for k in (0, 1, 3))
            new = i * torch.tanh(z[..., 2 * n : 3 * n])
            memory = new if memory is None else f * memory + new
            state = o * torch.tanh(memory)
        assert state is not None
        return state

    def fused(self, x: Tensor) -> Tensor:
        """The same by torch's own kernel, which hides the gates."""
        zeros = x.new_zeros(1, len(x), self.units)
        weights = [self.input.weight, self.state.weight, self.input.bias, torch.zeros_like(self.input.bias)]
        # Has biases, one layer, no dropout, training, one direction, the batch first.
        _, state, _ = torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, self.training, False, True)
        last: Tensor = state[0]
        return last


def imdb_mlp(in_shape: Sequence[int], n_classes: int, words: int = WORDS) -> TextModel:
    """An embedding of 32, and a ReLU layer of 250 on all embedded words at once: token ids [B, L] to logits.

    Source: Ancona et al. 2018, appendix C.4 (there with one output for two classes; here one for each).
    """
    behind = nn.Sequential(nn.Flatten(), nn.Linear(in_shape[0] * EMBEDDING, 250), nn.ReLU(), nn.Linear(250, n_classes))
    return TextModel(embedding(words), behind)


def imdb_lstm(in_shape: Sequence[int], n_classes: int, words: int = WORDS) -> TextModel:
    """An embedding of 32, a long short-term memory of 64 units, and a linear layer on its last state.

    Source: Ancona et al. 2018, appendix C.4 (there with one output for two classes; here one for each).
    """
    return TextModel(embedding(words), nn.Sequential(VisibleLSTM(EMBEDDING, 64), nn.Linear(64, n_classes)))
