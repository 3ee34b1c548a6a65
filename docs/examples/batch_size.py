"""Does gamma grow with the batch size, and by more than a random walk explains?

    optpath run quickstart                       # a minute on two cores
    python docs/examples/batch_size.py           # or: ... batch_size.py SWEEP STORAGE

The cells below can be run one by one in an editor that knows `# %%`.
"""

# %% The runs: one row each, with what was varied, how it ended, and how good it got.
import sys

from analysis import ablations_of, compare, figure, fit_power_law, load_sweep, trend_table, verdicts

name, *storage = sys.argv[1:] or ["quickstart"]
sweep = load_sweep(name, *storage)
print(sweep.runs[["batch_size", "seed", "status", "replay_exact"]].to_string(index=False))
print(f"{len(sweep.usable)} of {len(sweep.runs)} runs count", *sweep.problems, sep="\n")

# %% What a column means, with its unit.
documented = sweep.columns.set_index(["table", "column"])
print(documented.loc[("steps", "gamma")].to_string())

# %% gamma ~ b^a at equal epochs, where the number of steps falls as 1/b, and at equal steps.
for ablation in ablations_of(sweep):
    print(f"\n{ablation.title}; {ablation.exclusion.describe()}")
    for measure in ("gamma", "null_gamma", "gamma_over_null"):
        law = fit_power_law(ablation.cells, x="batch_size", y=measure)
        print(f"  {measure} ~ b^{law}, {law.method}", *law.excluded, sep="\n    ")

# %% The same and more as one table: lines, rank correlations, effect over the whole range.
trends = trend_table(ablations_of(sweep))
columns = ["ablation", "measure", "exponent", "low", "high", "factor", "rank", "notes"]
print(trends[columns].round(3).to_string(index=False))

# %% The conclusion: the rule that judges gamma judges the null model's own table too.
for verdict in verdicts(sweep).itertuples():
    print(f"{verdict.claim}: {verdict.verdict} ({verdict.why})")

# %% The figure, as a matplotlib figure to save or change.
figure(sweep, "gamma_trend").savefig("gamma_trend.png", dpi=150)

# %% A second look after a change: nothing may have moved.
print(compare(sweep, load_sweep(name, *storage)).counts)
