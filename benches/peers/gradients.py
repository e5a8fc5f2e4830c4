"""`torch.autograd.gradcheck` on the network of `cargo bench --bench gradients`, and what it finds of planted bugs."""

import torch
from torch.autograd.gradcheck import GradcheckError, gradcheck

# Whether an error is found depends on the numbers drawn.
DRAWS = 5

BUGS = {
    "none": lambda factors: None,
    "all x (1 + 1e-5)": lambda factors: factors.mul_(1 + 1e-5),
    "one x 1.01": lambda factors: factors[0, 7].mul_(1.01),
    "one zero": lambda factors: factors[0, 7].zero_(),
}


def square(bug):
    """x * x, whose backward pass has this bug."""

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            factors = torch.full_like(x, 2.0)
            BUGS[bug](factors)
            return factors * x * grad

    return Square.apply


def network():
    """8 rows through 32-64-64-10 in f64: 7,178 numbers, the rows among them."""

    def drawn(*shape, scale):
        return (torch.randn(*shape, dtype=torch.float64) * scale).requires_grad_()

    inputs = [
        drawn(8, 32, scale=1.0),
        drawn(32, 64, scale=0.3), drawn(64, scale=0.1),
        drawn(64, 64, scale=0.2), drawn(64, scale=0.1),
        drawn(64, 10, scale=0.2), drawn(10, scale=0.1),
    ]  # fmt: skip
    weights = torch.randn(8, 10, dtype=torch.float64)

    def output(sqr):
        def f(x, w1, b1, w2, b2, w3, b3):
            return torch.tanh(sqr(torch.tanh(x @ w1 + b1)) @ w2 + b2) @ w3 + b3

        return f

    def loss(sqr):
        f = output(sqr)
        return lambda *inputs: (f(*inputs) * weights).sum()

    return inputs, loss, output


def median(clock, run, rounds):
    times = []
    for _ in range(rounds):
        start = clock()
        run()
        times.append(clock() - start)
    return sorted(times)[rounds // 2] * 1e3


def finds(f, inputs, fast):
    try:
        gradcheck(f, inputs, fast_mode=fast)
    except GradcheckError:
        return True
    return False


def times(clock):
    """Of the loss, as candling checks it, and of the network's output, as one would give it to gradcheck."""
    inputs, loss, output = network()
    f, g = loss(torch.square), output(torch.square)
    print(f"\n{'slopes, median':<46}{'ms':>10}")
    for what, run, rounds in [
        ("forward, backward", lambda: f(*inputs).backward(), 201),
        ("gradcheck, fast, of the loss", lambda: gradcheck(f, inputs, fast_mode=True), 41),
        ("gradcheck, fast, of the output", lambda: gradcheck(g, inputs, fast_mode=True), 41),
        ("gradcheck, slow, of the loss", lambda: gradcheck(f, inputs), 3),
        ("gradcheck, slow, of the output", lambda: gradcheck(g, inputs), 3),
    ]:
        print(f"{what:<46}{median(clock, run, rounds):>10.3f}", flush=True)


def power():
    networks = [network() for _ in range(DRAWS)]
    print(f"\nfound in so many of {DRAWS} networks")
    print(f"{'bug':<22}{'fast, loss':>14}{'slow, loss':>14}{'fast, output':>14}{'slow, output':>14}")
    for bug in BUGS:
        row = f"{bug:<22}"
        for which in (1, 2):
            for fast in (True, False):
                found = sum(finds(net[which](square(bug)), net[0], fast) for net in networks)
                row += f"{found:>14}"
        print(row, flush=True)
