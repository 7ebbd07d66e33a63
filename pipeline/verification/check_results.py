"""Results of the checks of `marginalia verify`, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from marginalia.schemas.errors import MarginaliaError
from marginalia.schemas.terminal import table

SHOWN = 3  # problems that a line of the output lists


@dataclass(frozen=True)
class CheckResult:
    """One check. `summary` is shown if it passed; `problem` and `fix` (the command to run) are None then."""

    stage: str
    subject: str
    summary: str
    problem: str | None = None
    fix: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the check passed."""
        return self.problem is None


@dataclass
class Verification:
    """The checks of one run, in the order of the stages."""

    run: str
    checks: list[CheckResult] = field(default_factory=list)

    @property
    def failed(self) -> list[CheckResult]:
        """The checks that did not pass."""
        return [check for check in self.checks if not check.ok]

    @property
    def data(self) -> dict[str, Any]:
        """The output of `--json`. Its keys are a contract."""
        rows = [
            {
                "stage": check.stage,
                "what": check.subject,
                "seen": check.summary,
                "problem": check.problem,
                "mend": check.fix,
                "ok": check.ok,
            }
            for check in self.checks
        ]
        return {"run": self.run, "ok": not self.failed, "failed": len(self.failed), "checks": rows}

    def add(self, stage: str, subject: str, summary: str, problems: Sequence[str] = (), fix: str | None = None) -> None:
        """Adds one check. It failed if there are problems, of which the first SHOWN are listed."""
        if not problems:
            self.checks.append(CheckResult(stage, subject, summary))
            return
        more = f" and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        self.checks.append(CheckResult(stage, subject, summary, "; ".join(problems[:SHOWN]) + more, fix))

    @contextmanager
    def failing(self, stage: str, subject: str, fix: str) -> Iterator[None]:
        """Turns a MarginaliaError of the body into a failed check, so that the remaining checks still run."""
        try:
            yield
        except MarginaliaError as error:
            self.checks.append(CheckResult(stage, subject, "", str(error), fix))

    def __str__(self) -> str:
        rows = [
            (check.stage, check.subject, "ok", check.summary)
            if check.ok
            else (check.stage, check.subject, "FAILED", check.problem or "")
            for check in self.checks
        ]
        lines = [table(["stage", "check", "result", ""], rows, indent=0)]
        if not self.failed:
            return "\n".join([*lines, f"{self.run}: all {len(self.checks)} checks passed"])
        # outside the table, so that no command is broken into lines
        fixes = dict.fromkeys(f"  fix: {check.fix}" for check in self.failed if check.fix)
        last = f"{self.run}: {len(self.failed)} of {len(self.checks)} checks failed; start with the first fix:"
        return "\n".join([*lines, last, *fixes])
