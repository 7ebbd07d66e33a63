"""Config of the simulated annotators: their error rates."""

from __future__ import annotations

from pydantic import Field

from marginalia.schemas.base_model import StrictModel


class AnnotatorProfile(StrictModel):
    """How one simulated annotator changes the intended labels."""

    miss: float = Field(default=0.1, ge=0, le=1, description="chance to leave out a label that was intended")
    false_alarm: float = Field(default=0.02, ge=0, le=1, description="chance to tick a label that was not intended")
    label_miss: dict[str, float] = Field(default={}, description="`miss` of single labels, by id")
    label_false_alarm: dict[str, float] = Field(default={}, description="`false_alarm` of single labels, by id")
    skip: float = Field(default=0.02, ge=0, le=1, description="chance to discard a record")
    note: float = Field(default=0.05, ge=0, le=1, description="chance to leave a note")
    unsure: float = Field(default=0.05, ge=0, le=1, description="chance to mark an answer as unsure")


class SimulationSection(StrictModel):
    """The simulated annotators of a demo; used only by runs that say `simulated: true`."""

    profiles: list[AnnotatorProfile] = Field(
        default=[
            AnnotatorProfile(miss=0.06, false_alarm=0.01),
            AnnotatorProfile(miss=0.12, false_alarm=0.03),
            AnnotatorProfile(miss=0.20, false_alarm=0.02),
        ],
        min_length=1,
        description="error rates of annotation.team's members, in their order; the last serves all further ones",
    )
    expert: AnnotatorProfile = Field(
        default=AnnotatorProfile(miss=0.02, false_alarm=0.005, skip=0.0),
        description="error rates of annotation.experts' members, who adjudicate",
    )

    def profile(self, index: int) -> AnnotatorProfile:
        """The profile of the team member with this index; the last one serves all further members."""
        return self.profiles[min(index, len(self.profiles) - 1)]
