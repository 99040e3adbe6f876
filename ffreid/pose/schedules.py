"""Learning rates and validation intervals as pure functions of the step, without state."""

import math


def triangular(step: int, *, low: float, high: float, half_period: int) -> float:
    """Rate of a triangular cycle (Smith, WACV 2017): `low` at 0, `high` after `half_period`."""
    half_period = max(1, half_period)
    position = step % (2 * half_period)
    return low + (high - low) * (1 - abs(position / half_period - 1))


def cosine(step: int, *, low: float, high: float, warmup: int, total: int) -> float:
    """Rate that rises linearly from `low` to `high` in `warmup` steps, then falls to `low`.

    It falls as half a cosine until step `total` (Loshchilov and Hutter, ICLR 2017).
    """
    if step < warmup:
        return low + (high - low) * step / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return low + (high - low) * (1 + math.cos(math.pi * done)) / 2


def validation_due(done: int, *, total: int, windows: int) -> bool:
    """Whether the authors validate after `done` steps.

    A run is cut into `windows` parts; parts in which the rate falls validate 15 times, others 6
    times, and step 100 always does. (Runs shorter than 15 steps a part divide by zero there.)
    """
    width = max(1, total // windows)
    falling = (done // width) % 2 == 1
    every = max(1, width // (15 if falling else 6))
    return done == 100 or (done > 0 and done % every == 0)


def halving_momentum(step: int, *, batch: float) -> float:
    """Batch-norm momentum of the authors' schedule: 0.9, halved each 200,000 samples, least 0.01.

    Without effect in their training (apex's batch norm is not the class that it sets).
    """
    return max(0.9 * 0.5 ** int(step * batch / 2e5), 0.01)
