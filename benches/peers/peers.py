"""The rows of `cargo bench --bench compare`, two training steps, and checks of gradients and of what depends on what, by
PyTorch and numpy.

Needs torch and numpy. Every row is printed beside the floor, which is reading both arrays once, so that ratios can be
set beside candling's: absolute times differ between machines, and between runs on one machine. With `--threads 1` CPU
time is taken, which other work on the machine disturbs less; run the benchmark with RAYON_NUM_THREADS=1 beside it.
"""

import argparse
import time

import dependence
import gradients
import numpy as np
import torch

LARGE, SMALL = 1 << 24, 1 << 10
NEAR = {"f32": 1 + 3e-7, "f64": 1 + 1e-9, "f16": 1.0004, "bf16": 1.004}
DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}
# The bounds of torch.testing.assert_close, given to numpy too.
BOUNDS = {"f32": (1.3e-6, 1e-5), "f64": (1e-7, 1e-7), "f16": (1e-3, 1e-5)}

clock = time.perf_counter


def best(run, budget):
    """The best time in microseconds: other work on the machine only ever adds."""
    times, end = [], time.perf_counter() + budget
    while len(times) < 3 or time.perf_counter() < end:
        start = clock()
        run()
        times.append(clock() - start)
    return min(times) * 1e6


def outcome(run, passes):
    """`run`, with the failure that it must raise caught and its report made."""

    def wrapped():
        try:
            run()
        except AssertionError as failure:
            assert not passes, failure
            return str(failure)
        assert passes

    return wrapped


def compare(dtype, elements):
    large = elements == LARGE
    name, budget = f"{dtype} {'16M' if large else '1k'}", 1.0 if large else 0.2
    x = torch.randn(elements).to(DTYPES[dtype])
    shift = torch.tensor([0.0, 1.0]).repeat(elements // 2)
    wrong = x.clone()
    wrong[-1] = 99
    side = int(elements**0.5)
    square = x.reshape(side, side)
    pairs = {
        "equal": (x, x.clone(), True),
        "near": (x, (x.double() * NEAR[dtype]).to(x.dtype), True),
        "one mismatch": (x, wrong, False),
        "half mismatched": (x, (x + shift.to(x.dtype)), False),
        "transposed": (square, square.t().contiguous().t(), True),
    }
    words = elements * x.element_size() // 8
    left, right = torch.ones(words, dtype=torch.float64), torch.ones(words, dtype=torch.float64)
    floor = best(lambda: (left.sum(), right.sum()), budget)
    print(f"{name:<8}  {'floor (torch.sum of both)':<36}{floor:>14.2f}{1.0:>10.2f}")

    def row(what, time_):
        print(f"{name:<8}  {what:<36}{time_:>14.2f}{time_ / floor:>10.2f}", flush=True)

    for what, (a, b, passes) in pairs.items():
        run = outcome(lambda: torch.testing.assert_close(a, b), passes)
        row(f"torch, {what}", best(run, budget))
    if dtype in BOUNDS:
        rtol, atol = BOUNDS[dtype]
        for what, (a, b, passes) in pairs.items():
            a, b = a.numpy(), b.numpy()
            run = outcome(lambda: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), passes)
            row(f"numpy, {what}", best(run, budget))


def train(name, model, x, y, steps=200):
    """One step, the loss read back, as a check that judges every step must."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    times = []
    for _ in range(steps):
        start = clock()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(clock() - start)
    times.sort()
    print(f"{name:<46}{times[0] * 1e3:>10.2f}{times[steps // 2] * 1e3:>10.2f}", flush=True)


def train_all():
    nn = torch.nn
    mlp = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)
    )
    train("MLP 784-512-256-10, batch 64", mlp, torch.randn(64, 784), torch.arange(64) % 10)
    conv = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip
    train("conv net 1-16-32, 28x28, batch 32", conv, torch.randn(32, 1, 28, 28), torch.arange(32) % 10)


def main():
    global clock
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtypes", nargs="*", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--only", choices=["compare", "train", "gradients", "bugs", "dependence"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.threads == 1:
        clock = time.process_time
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, numpy {np.__version__}, {torch.get_num_threads()} threads")
    if arguments.only in (None, "compare"):
        print(f"\n{'tensors':<8}  {'case':<36}{'us':>14}{'floors':>10}")
        for elements in (LARGE, SMALL):
            for dtype in arguments.dtypes:
                compare(dtype, elements)
    if arguments.only in (None, "train"):
        print(f"\n{'one training step, ms':<46}{'best':>10}{'median':>10}")
        train_all()
    if arguments.only in (None, "gradients"):
        gradients.times(clock)
    if arguments.only in (None, "bugs"):
        gradients.power()
    if arguments.only in (None, "dependence"):
        dependence.times(clock)


if __name__ == "__main__":
    main()
