"""The registry of claims: one line per family."""

from __future__ import annotations

from analysis.claims import (
    architectures,
    batch_size,
    budgets,
    correlations,
    curves,
    descent,
    gradients,
    identities,
    language,
    learning_rates,
    optimizers,
    parts,
    performance,
    positivity,
    regimes,
    stability,
    step_sizes,
    warm_up,
)
from analysis.claims.contract import Claim

CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in sorted(
        (
            *architectures.CLAIMS,
            *batch_size.CLAIMS,
            *budgets.CLAIMS,
            *correlations.CLAIMS,
            *curves.CLAIMS,
            *descent.CLAIMS,
            *gradients.CLAIMS,
            *identities.CLAIMS,
            *language.CLAIMS,
            *learning_rates.CLAIMS,
            *optimizers.CLAIMS,
            *parts.CLAIMS,
            *performance.CLAIMS,
            *positivity.CLAIMS,
            *regimes.CLAIMS,
            *stability.CLAIMS,
            *step_sizes.CLAIMS,
            *warm_up.CLAIMS,
        ),
        key=lambda claim: claim.id,
    )
}
