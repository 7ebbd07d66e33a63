"""One line of what `marginalia verify` says, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from marginalia.schemas.errors import MarginaliaError

SHOWN = 3  # problems of one kind that a line names


@dataclass(frozen=True)
class CheckResult:
    """`problem` is None when all is in order; `mend` is then None, too."""

    stage: str
    what: str
    seen: str
    problem: str | None = None
    mend: str | None = None

    @property
    def ok(self) -> bool:
        return self.problem is None


@dataclass
class Verification:
    """The checks of one run, in the order of the data."""

    run: str
    checks: list[CheckResult] = field(default_factory=list)

    @property
    def failed(self) -> list[CheckResult]:
        return [check for check in self.checks if not check.ok]

    @property
    def data(self) -> dict[str, Any]:
        """What `--json` prints."""
        rows = [{**asdict(check), "ok": check.ok} for check in self.checks]
        return {"run": self.run, "ok": not self.failed, "failed": len(self.failed), "checks": rows}

    def add(self, stage: str, what: str, seen: str, problems: Sequence[str] = (), mend: str | None = None) -> None:
        """One check; it failed when there are problems, of which the first few are named."""
        if not problems:
            self.checks.append(CheckResult(stage, what, seen))
            return
        more = f" and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
        self.checks.append(CheckResult(stage, what, seen, "; ".join(problems[:SHOWN]) + more, mend))

    @contextmanager
    def failing(self, stage: str, what: str, mend: str) -> Iterator[None]:
        """Turns an error of ours in the body into a failed check: the others still go on."""
        try:
            yield
        except MarginaliaError as error:
            self.checks.append(CheckResult(stage, what, "", str(error), mend))

    def __str__(self) -> str:
        width = max((len(check.stage) for check in self.checks), default=0)
        whats = max((len(check.what) for check in self.checks), default=0)
        lines = []
        for check in self.checks:
            said = check.seen if check.ok else check.problem
            lines.append(f"{check.stage:{width}}  {check.what:{whats}}  {'ok    ' if check.ok else 'FAILED'}  {said}")
            if check.mend is not None:
                lines.append(f"{'':{width}}  {'':{whats}}          mend it: {check.mend}")
        if not self.failed:
            return "\n".join([*lines, f"{self.run}: all {len(self.checks)} checks are in order"])
        last = f"{self.run}: {len(self.failed)} of {len(self.checks)} checks failed; mend the first one first"
        return "\n".join([*lines, last])
