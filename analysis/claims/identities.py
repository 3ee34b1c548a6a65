"""What must hold exactly: identities of the path, the null's closed form, the replay."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np

from analysis.claims import needs, statistics
from analysis.claims.contract import Claim, Evidence, Measures, Need, Null
from analysis.claims.facts import Facts
from analysis.claims.planting import SEEDS, PlantedRun, labelled, path_steps
from analysis.claims.rules import undefined
from analysis.claims.run import Array, ClaimRun
from analysis.verdicts import Found, Outcome, Word, exactly

RESIDUAL = 1e-5
"""Relative, of float32 weights; INVENTORY C23."""
ADDITIVE = 1e-6
"""Relative to ‖G‖ ‖D‖; float32 reaches 4e-9 (INVENTORY C14)."""
DEVIATIONS = 4.0
"""Standard deviations of the mean of gamma sqrt(T - t) that the closed form is given; ours: one
faultless walk in 16,000 lies outside."""
WIDEST = 0.1
"""A wider band around 1 would pass nearly anything; ours."""
SLACK = 1e-6
"""Relative rounding that the bound of eq. 7 is given."""
PRECISE = 1e-9
"""Relative, of identities among columns kept in float64."""


def largest(name: str, limit: float, words: str, evidence: Evidence) -> Found:
    """The largest of a number over the runs is below a limit."""
    values = [run[name] for run in evidence.runs if np.isfinite(run[name])]
    if not values:
        return undefined("no run has a value.")
    return Found(
        exactly(max(values) < limit), f"{words}: {max(values):.3g}, of {len(values)} runs."
    )


def additivity(run: ClaimRun) -> Measures:
    """How far RSI is from additive, and the error bound from the triangle inequality."""
    table = run.tables["probe_batches"]
    residual = np.abs(table["additivity_residual"].to_numpy(float))
    excess = table["triangle_excess"].to_numpy(float)
    return {"residual": _maximum(np.concatenate([residual, excess]))}


def update_identity(run: ClaimRun) -> Measures:
    """|d_{t+1}^2 - d_t^2 - 2 <U, D> - ‖U‖^2| / max(d_t^2, ‖U‖^2), the largest over the steps."""
    squared = run.whole("distance") ** 2
    update, inner = run.whole("update_norm"), run.whole("update_inner_product")
    after = np.append(squared[1:], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.abs(after - squared - 2 * inner - update**2)
        # where a step is longer than the way left, its rounding is the larger: of both, the larger
        return {"residual": _maximum(residual / np.maximum(squared, update**2))}


def guaranteed(run: ClaimRun) -> Measures:
    """How far eq. 5 and 6 are from exact, and eq. 7 from a bound: see `rates_hold`."""
    distance, rate = run.whole("distance"), run.whole("learning_rate")
    rsi, bound = run.whole("rsi"), run.whole("error_bound")
    best, gamma = run.whole("local_lr"), run.whole("gamma")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at_best = 1 - 2 * best * rsi + (best * bound) ** 2
        residual = _maximum(np.abs(at_best - (1 - gamma**2)))
        least, most = -_defined_maximum(-rsi), _defined_maximum(bound)
        # 1 - 2 eta mu + eta^2 L^2, written so that rounding cannot make it negative
        factors = (1 - rate * least) ** 2 + rate**2 * max(most**2 - least**2, 0.0)
        # in logarithms: over many steps the bound leaves the range of float64 at either end
        promised = np.cumsum(np.log(factors))[:-1]
        excess = 2 * np.log(distance[1:] / distance[0]) - promised
        violation = np.expm1(_defined_maximum(excess))
    return {
        "residual": residual,
        "violation": float(violation) if least > 0 else math.nan,
        "plain": _is_plain(run),
    }


def _is_plain(run: ClaimRun) -> bool:
    """True if every update was -eta G: SGD that clipped nothing.

    Weight decay must be 0 itself (`without_decay`): with any, the step is along G + lambda w, whose
    RSI and error bound are not the measured ones, and eq. 4 to 7 say nothing of G. A small one
    hides in the norm of the update, which float32 rounds to 1e-4 of it.
    """
    expected = run.whole("learning_rate") * run.whole("gradient_norm")
    with np.errstate(divide="ignore", invalid="ignore"):
        return bool(_maximum(np.abs(run.whole("update_norm") / expected - 1)) < 1e-3)


def without_decay(facts: Facts) -> bool:
    """True for SGD whose weight decay is exactly 0; see `_is_plain`."""
    is_sgd = needs.is_of(facts, "optimizer", ["sgd"])
    return is_sgd and facts.number("optimizer.weight_decay", 0.0) == 0


def rates_hold(evidence: Evidence) -> Found:
    """A step of local_lr contracts by sqrt(1 - gamma^2), and mu = inf RSI, L = sup EB bound d_t."""
    runs = [run for run in evidence.runs if run["plain"]]
    residuals = [run["residual"] for run in runs if np.isfinite(run["residual"])]
    violations = [run["violation"] for run in runs if not math.isnan(run["violation"])]
    if not residuals or not violations:
        return undefined(
            "no run of SGD that clipped nothing, and whose RSI is positive throughout."
        )
    numbers = (
        f"largest residual {max(residuals):.3g}; largest excess of d_t^2 over the bound, of "
        f"{len(violations)} runs with inf RSI > 0: {max(violations):.3g} of it."
    )
    return Found(exactly(max(residuals) < PRECISE and max(violations) < SLACK), numbers)


def walk(run: ClaimRun) -> Measures:
    """The mean over the steps of gamma sqrt(T - t), and its variance over walks, 1 / (4 d).

    To first order in 1 / sqrt(d), with u_t the steps' directions and S_t the sum of those from t
    on, gamma_t sqrt(T - t) - 1 = sum_{s > t} <u_t, u_s> - (‖S_t‖^2 / (T - t) - 1) / 2. In its mean
    over t a pair s < r has the weight (1 + ln(1 - s / T)) / T, and each <u_s, u_r> the variance
    1 / d, so the variance is 1 / d times the integral of x (1 + ln x)^2 over [0, 1], which is 1/4,
    whatever T. Simulated: .0112 at d = 2000, T = 200, against .0112.
    """
    to_come = np.arange(run.facts.num_steps, 0, -1.0)
    measured = run.noise_dimension()
    dimension = run.facts.number("data.dimension", math.nan)
    dimension = dimension if math.isnan(measured) else measured
    return {
        "mean": statistics.mean(run.whole("gamma") * np.sqrt(to_come)),
        "variance": 1 / (4 * dimension),
    }


def closed_form(evidence: Evidence) -> Found:
    """The mean over the runs is 1, within what walks in that many dimensions scatter."""
    mean = float(np.mean([run["mean"] for run in evidence.runs]))
    if math.isnan(mean):
        return undefined("gamma has no value.")
    numbers = f"mean of gamma sqrt(T - t): {mean:.4f}"
    variances = [run["variance"] for run in evidence.runs]
    band = DEVIATIONS * math.sqrt(sum(variances)) / len(variances)
    if math.isnan(band):
        why = "the walk's dimension is not known: give data.dimension, or measure probe_batches"
        return Found(Outcome.OPEN, f"{numbers}.", why=why)
    if band > WIDEST:
        why = f"walks in so few dimensions scatter by {band:.2g} of it, more than {WIDEST}"
        return Found(Outcome.OPEN, f"{numbers}.", why=why)
    found = exactly(abs(mean - 1) < band)
    return Found(
        found, f"{numbers}, where walks in that many dimensions are within {band:.2g} of 1."
    )


def plain_walk(facts: Facts) -> bool:
    """True for steps along the gradient, of one length: SGD at a constant learning rate."""
    return needs.is_of(facts, "optimizer", ["sgd"]) and needs.is_constant(facts)


def replays(evidence: Evidence) -> Found:
    """Every replay ended bitwise at w*."""
    known = [run.facts.replay_exact for run in evidence.runs]
    return Found(exactly(all(known)), f"{sum(map(bool, known))} of {len(known)} replays exact.")


def nothing(run: ClaimRun) -> Measures:
    """No measurement: the facts say it."""
    return {}


def _maximum(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else math.nan


def _defined_maximum(values: Array) -> float:
    """The same, infinity included: what exceeds a bound of zero is not unknown."""
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else math.nan


STEPS = 100


def descents(*, defect: float = 0.0, shift: float = 0.0) -> list[PlantedRun]:
    """SGD on a quadratic of eigenvalues .5 and 1, measured against where it ends.

    `defect` spoils one distance, `shift` adds to every RSI.
    """
    rate, curvature = 0.1, np.array([0.5, 1.0])
    points = np.array([3.0, 4.0]) * (1 - rate * curvature) ** np.arange(STEPS + 1)[:, None]
    gradients, away = (points * curvature)[:-1], (points - points[-1])[:-1]
    distance, norm = np.linalg.norm(away, axis=1), np.linalg.norm(gradients, axis=1)
    cosine = (gradients * away).sum(axis=1) / (distance * norm)
    distance[50] *= 1 + defect
    steps = path_steps(STEPS, cosine, distance=distance, gradient_norm=norm, learning_rate=rate)
    update = np.diff(points, axis=0)
    steps |= {
        "update_norm": np.linalg.norm(update, axis=1),
        "update_inner_product": (update * away).sum(axis=1),
        "rsi": steps["rsi"] + shift,
    }
    return [PlantedRun({"seed": 0}, steps, config={"optimizer": {"name": "sgd"}})]


def batches(residual: float) -> list[PlantedRun]:
    """Probe batches of that additivity residual."""
    columns = {"additivity_residual": {"2 x b": residual}, "triangle_excess": {"2 x b": -0.1}}
    tables = {"probe_batches": labelled(columns, STEPS)}
    return [PlantedRun({"seed": 0}, path_steps(STEPS, 0.05), tables=tables)]


def walks(factor: float, dimension: int | None = 20_000) -> list[PlantedRun]:
    """Random walks in that many dimensions with gamma = factor (T - t)^-1/2."""
    gamma = factor * np.arange(STEPS, 0, -1.0) ** -0.5
    data = {"name": "random_walk"} | ({} if dimension is None else {"dimension": dimension})
    config = {"data": data, "optimizer": {"name": "sgd"}}
    return [PlantedRun({"seed": seed}, path_steps(STEPS, gamma), config=config) for seed in SEEDS]


def replayed(exact: bool) -> list[PlantedRun]:
    """A run whose replay was exact, and one whose was or was not."""
    good = PlantedRun({"seed": 0}, path_steps(STEPS, 0.05))
    status = "done" if exact else "replay_diverged"
    return [good, replace(good, axes={"seed": 1}, replay_exact=exact, status=status)]


CLAIMS = (
    Claim(
        id="C14",
        statement="RSI is additive over gradients, the error bound obeys the triangle inequality",
        source="P1 section 5",
        metric="residual of both on probe batches, relative to ‖G‖ ‖D‖",
        rule=f"passes if the largest is below {ADDITIVE:g}.",
        threshold="float32 reaches 4e-9; relative to RSI itself it would be 5e-6",
        needs=(),
        columns=("probe_batches.additivity_residual", "probe_batches.triangle_excess"),
        measure=additivity,
        decide=partial(largest, "residual", ADDITIVE, "largest residual"),
        null=Null.EXACT,
        planted={Word.PASSES: partial(batches, 1e-9), Word.FAILS: partial(batches, 1e-3)},
    ),
    Claim(
        id="C22",
        statement="on an isotropic random walk gamma is (T - t)^-1/2",
        source="P1 section 6, eq. 8",
        metric="mean over runs and steps of gamma sqrt(T - t)",
        rule=f"passes if it lies within {DEVIATIONS:g} standard deviations of 1: over R walks in d "
        "dimensions one is 1 / (2 sqrt(d R)), whatever T. Where that is not known, or the band is "
        f"wider than {WIDEST}, nothing is settled.",
        threshold="the scatter of the walk itself: .0082 for three walks in 20,000 dimensions",
        needs=(
            needs.synthetic("the random walk", "random_walk", "isotropic_random_walk", "walk"),
            Need("runs of SGD at a constant learning rate", plain_walk),
        ),
        columns=("steps.gamma",),
        measure=walk,
        decide=closed_form,
        null=Null.EXACT,
        planted={Word.PASSES: partial(walks, 1.005), Word.FAILS: partial(walks, 1.2)},
    ),
    Claim(
        id="C23",
        statement="the next distance follows from the update: d_{t+1}^2 = d_t^2 + 2<U, D> + ‖U‖^2",
        source="P1 section 3, eq. 4, for any optimizer",
        metric="largest residual over all steps, relative to max(d_t^2, ‖U‖^2); w_T is w*",
        rule=f"passes if it is below {RESIDUAL:g} in every run.",
        threshold="float32 weights",
        needs=(),
        columns=("steps.distance", "steps.update_norm", "steps.update_inner_product"),
        measure=update_identity,
        decide=partial(largest, "residual", RESIDUAL, "largest relative residual"),
        null=Null.EXACT,
        planted={Word.PASSES: descents, Word.FAILS: partial(descents, defect=1e-3)},
    ),
    Claim(
        id="C24",
        statement="SGD with the locally optimal step size contracts by sqrt(1 - gamma^2), and inf "
        "RSI and sup EB guarantee a rate",
        source="P1 section 3, eq. 5 to 7",
        metric="residual of 1 - 2 eta* RSI + (eta* EB)^2 = 1 - gamma^2; excess of d_t^2 over "
        "d_0^2 prod (1 - 2 eta mu + eta^2 L^2), which is eq. 7 at eta = mu / L^2",
        rule="passes if in every run of plain SGD (weight decay exactly 0) the first is below "
        f"{PRECISE:g} and the second below {SLACK:g} of the bound; runs whose inf "
        "RSI is not positive have no bound.",
        threshold="float64 columns; rounding",
        needs=(Need("runs of SGD with a weight decay of exactly 0", without_decay),),
        columns=(
            "steps.distance",
            "steps.rsi",
            "steps.error_bound",
            "steps.gamma",
            "steps.local_lr",
            "steps.learning_rate",
            "steps.gradient_norm",
            "steps.update_norm",
        ),
        measure=guaranteed,
        decide=rates_hold,
        null=Null.EXACT,
        planted={Word.PASSES: descents, Word.FAILS: partial(descents, shift=0.2)},
    ),
    Claim(
        id="C42",
        statement="the replay pass is the reference pass, bit for bit",
        source="P1 algorithm 1, implied",
        metric="whether the replay ended at w*, with every fingerprint equal on the way",
        rule="passes if every replay did.",
        threshold="equality",
        needs=(Need("runs with a replay pass", lambda f: f.planned or f.replay_exact is not None),),
        measure=nothing,
        decide=replays,
        null=Null.EXACT,
        any_status=True,
        planted={Word.PASSES: partial(replayed, True), Word.FAILS: partial(replayed, False)},
    ),
)
