"""What others would do on the networks of `cargo bench --bench dependence`: a backward pass a row, or a position."""

import math

import torch

MLP = [256] * 5
WIDTH, HEADS, LAYERS = 64, 4, 2
# Positions of the transformer whose rows must not mix.
POSITIONS = 16


class Mlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(i, o) for i, o in zip(MLP, MLP[1:]))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = torch.nn.Linear(WIDTH, WIDTH)
        self.up, self.down = torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, mask):
        n, t, _ = x.shape
        y = self.norms[0](x)
        q, k, v = (layer(y).view(n, t, HEADS, -1).transpose(1, 2) for layer in self.qkv)
        scores = q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        if mask is not None:
            scores = scores + mask
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, WIDTH)
        x = x + self.out(attended)
        return x + self.down(self.up(self.norms[1](x)).relu())


class Transformer(torch.nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.blocks = torch.nn.ModuleList(Block() for _ in range(LAYERS))
        self.causal = causal

    def forward(self, x):
        mask = None
        if self.causal:
            mask = torch.full((x.shape[1], x.shape[1]), -math.inf).triu(1)
        for block in self.blocks:
            x = block(x, mask)
        return x


def forward_each(f, x, rows):
    """A forward and a backward pass for every one of the rows: the gradient of the others must be zero."""
    for i in rows:
        x.grad = None
        f(x)[i].square().sum().backward()
        assert x.grad[:i].count_nonzero() == 0 and x.grad[i + 1 :].count_nonzero() == 0


def graph_kept(f, x, rows):
    """One forward pass and a backward pass for every one of the rows."""
    sums = f(x).square().flatten(1).sum(1)
    for i in rows:
        (grad,) = torch.autograd.grad(sums[i], x, retain_graph=i != rows[-1])
        assert grad[:i].count_nonzero() == 0 and grad[i + 1 :].count_nonzero() == 0


def every_position(f, x, keep):
    """A backward pass for every position of one row: the gradient of the later ones must be zero."""
    positions = x.shape[1]
    y = f(x)
    for t in range(positions):
        if not keep and t > 0:
            y = f(x)
        (grad,) = torch.autograd.grad(y[:, t].square().sum(), x, retain_graph=keep)
        assert grad[:, t + 1 :].count_nonzero() == 0


def every_cut(f, x):
    """A forward pass for every cut, all in one batch: the positions before it must stay as they were."""
    positions = x.shape[1]
    other = torch.randn_like(x)
    later = torch.arange(positions) > torch.arange(positions - 1)[:, None]
    probes = torch.where(later[..., None], other, x)
    base = f(x.expand(positions - 1, -1, -1))
    kept = (f(probes) == base).all(-1) | later
    assert kept.all()


def times(clock):
    print(f"\n{'dependence, ms':<58}{'median':>10}")

    def row(what, run, rounds, times=1):
        taken = []
        for _ in range(rounds):
            start = clock()
            run()
            taken.append((clock() - start) * times)
        print(f"{what:<58}{sorted(taken)[rounds // 2] * 1e3:>10.2f}", flush=True)

    for name, f, dims in (("MLP 4x256", Mlp(), (256,)), ("transformer", Transformer(False), (POSITIONS, WIDTH))):
        for rows in (8, 64, 256):
            x = torch.randn(rows, *dims, requires_grad=True)
            # Of 256 rows every fourth, as in the benchmark.
            rounds, step = (1, 4) if rows == 256 else (3, 1)
            some = range(0, rows, step)
            row(f"{name}, {rows} rows, a forward and a backward pass each", lambda: forward_each(f, x, some), rounds, step)
            row(f"{name}, {rows} rows, a backward pass each", lambda: graph_kept(f, x, some), rounds, step)
    f = Transformer(True)
    for positions in (32, 128):
        x = torch.randn(1, positions, WIDTH, requires_grad=True)
        row(f"causal, {positions} positions, both passes each", lambda: every_position(f, x, False), 5)
        row(f"causal, {positions} positions, a backward pass each", lambda: every_position(f, x, True), 5)
        with torch.no_grad():
            row(f"causal, {positions} positions, every cut in one batch", lambda: every_cut(f, x), 5)
