"""Uploads a release to the Hugging Face Hub as one commit, unless it is already there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginalia.pipeline.config.release import ReleaseSection
from marginalia.schemas.errors import InputError, MarginaliaError, ServiceError
from marginalia.schemas.hub_client import commit_id, upload_to
from marginalia.schemas.key_masking import KeyMask
from marginalia.schemas.text_checks import displayable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ATTEMPTS = 3
PAUSE = 2.0  # seconds before asking the Hub whether the commit exists; doubled each time
HUB_FILES = {".gitattributes"}  # made by the Hub itself


@dataclass(frozen=True)
class Published:
    """The commit that contains the release. `attempts`: commits that were sent; 0 when nothing had changed."""

    commit: str
    url: str
    attempts: int


class HubRepository:
    """The data set repository `section.repo_id`.

    Every failure of the Hub becomes a ServiceError whose message does not contain the token."""

    def __init__(self, section: ReleaseSection, token: str) -> None:
        from huggingface_hub import HfApi

        if section.repo_id is None:
            raise InputError("release.repo_id is not set", hint="marginalia config --explain repo_id")
        self.repo_id = section.repo_id
        self._section = section
        self._safe = KeyMask(token)
        self._api: HfApi = HfApi(endpoint=section.endpoint, token=token, library_name="marginalia")
        upload_to(self._api.endpoint, timeout=section.timeout, allow_http=section.allow_http)

    def publish(self, folder: Path, title: str) -> Published:
        """Makes the repository contain exactly the files of `folder`, in addition to the Hub's own.

        Equal content needs an equal `title`: by its title a commit is recognised whose response was lost."""
        parent = self._prepare()
        obsolete = self._obsolete(folder, parent)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                commit = self._commit(folder, obsolete, title, parent)
            except _UncertainCommitError as error:
                time.sleep(PAUSE * 2 ** (attempt - 1))
                if existing := self._find_commit(title, parent):
                    return Published(existing, self._url(existing), attempt)
                if error.conflict:
                    raise ServiceError(
                        f"{self.repo_id} was changed by somebody else at the same time",
                        hint="check the repository, then publish again",
                    ) from error
                last_error = error
            else:
                return Published(commit, self._url(commit), attempt if commit != parent else 0)
        raise ServiceError(
            f"the Hub did not accept the commit in {ATTEMPTS} attempts: {last_error.reason}",
            hint="nothing was published; try again later",
        ) from last_error

    def _prepare(self) -> str:
        """Creates the repository if needed, checks that it is private, sets its gate, and returns its latest commit."""
        section = self._section
        info = self._info()
        if info is None:
            with self._wrapped("create the repository"):
                self._api.create_repo(self.repo_id, repo_type="dataset", private=section.private, exist_ok=True)
            info = self._info()
            if info is None:
                raise ServiceError(f"the Hub created {self.repo_id} but does not return it", hint="try again later")
        if not isinstance(info.private, bool):
            raise ServiceError(
                f"{self._api.endpoint} does not say whether {self.repo_id} is private", hint="check release.endpoint"
            )
        if section.private and not info.private:
            raise InputError(
                f"{self.repo_id} exists and is public, but release.private is true",
                hint="make it private on the Hub, choose another release.repo_id, or set release.private: false",
            )
        gated: Any = False if section.gated == "open" else section.gated
        if info.gated != gated:
            with self._wrapped("set who may download"):
                self._api.update_repo_settings(self.repo_id, repo_type="dataset", gated=gated)
        return commit_id(info.sha)

    def _info(self) -> Any:
        from huggingface_hub.errors import RepositoryNotFoundError

        with self._wrapped("look for the repository"):
            try:
                return self._api.repo_info(self.repo_id, repo_type="dataset")
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    return None
                raise

    def _obsolete(self, folder: Path, parent: str) -> list[str]:
        """Files on the Hub that are not in the release. Refuses a repository with files that are not a release."""
        with self._wrapped("list the repository's files"):
            on_hub = set(self._api.list_repo_files(self.repo_id, repo_type="dataset", revision=parent)) - HUB_FILES
            if not all(isinstance(name, str) for name in on_hub):
                raise TypeError("names of files are not texts")
        if on_hub - {"README.md"} and "release.json" not in on_hub:
            raise InputError(
                f"{self.repo_id} contains files that are not a Marginalia release: {', '.join(sorted(on_hub)[:5])}",
                hint="choose another release.repo_id",
            )
        in_release = {item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file()}
        return sorted(on_hub - in_release)

    def _commit(self, folder: Path, obsolete: list[str], title: str, parent: str) -> str:
        import httpx2
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        # created for each attempt, as the client marks the operations that it has sent
        files = sorted(item for item in folder.rglob("*") if item.is_file())
        operations: list[Any] = [CommitOperationDelete(path) for path in obsolete]
        operations += [CommitOperationAdd(file.relative_to(folder).as_posix(), str(file)) for file in files]
        with self._wrapped("commit"):
            try:
                with _causes_of_failed_uploads():
                    commit = self._api.create_commit(
                        self.repo_id, operations, commit_message=title, repo_type="dataset", parent_commit=parent
                    )
            except HfHubHTTPError as error:
                if error.response.status_code == 412:
                    raise _UncertainCommitError("the repository has a newer commit", conflict=True) from error
                if error.response.status_code >= 500:
                    raise _UncertainCommitError(f"HTTP {error.response.status_code}") from error
                raise
            except httpx2.RequestError as error:
                raise _UncertainCommitError(type(error).__name__) from error
        try:
            return commit_id(commit.oid)
        except ServiceError as error:
            raise _UncertainCommitError("an answer without a commit id") from error

    def _find_commit(self, title: str, parent: str) -> str | None:
        """The id of a commit with this title after `parent`; None when there is none."""
        with self._wrapped("ask whether the commit exists (it may exist: check before you publish again)"):
            for commit in self._api.list_repo_commits(self.repo_id, repo_type="dataset"):
                if commit.commit_id == parent:
                    return None
                if commit.title == title:
                    return commit_id(commit.commit_id)
        return None

    def _url(self, commit: str) -> str:
        return f"{self._api.endpoint}/datasets/{self.repo_id}/commit/{commit}"

    @contextmanager
    def _wrapped(self, action: str) -> Iterator[None]:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except (_UncertainCommitError, MarginaliaError):
            raise
        except OfflineModeIsEnabled as error:
            raise ServiceError(f"cannot {action}: offline mode is on", hint="unset HF_HUB_OFFLINE") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            message = error.server_message or error.response.reason_phrase
            raise ServiceError(
                f"the Hub refused to {action} ({self.repo_id}): HTTP {status} {self._without_token(message)}",
                hint=self._hint(status),
            ) from None  # without the library's error, which contains the request
        except Exception as error:  # what the library raises for JSON that is not the Hub's depends on the JSON
            if isinstance(error, httpx2.RequestError | ValueError | OSError) or type(error) is RuntimeError:
                reason = self._without_token(str(error)) or type(error).__name__
                raise ServiceError(
                    f"cannot {action} at {self._api.endpoint}: {reason}", hint="check the network and release.endpoint"
                ) from None
            raise ServiceError(
                f"cannot {action} at {self._api.endpoint}: its responses are not those of the Hub",
                hint="check release.endpoint",
            ) from None

    def _without_token(self, text: str) -> str:
        return " ".join(displayable(self._safe(text, limit=1_000)).split())

    def _hint(self, status: int) -> str:
        if status == 401:
            return (
                f"the token in {self._section.token_env} is not valid; create one at "
                f"{self._api.endpoint}/settings/tokens"
            )
        if status == 403:
            return f"the token in {self._section.token_env} may not write there; give it write access to {self.repo_id}"
        if status == 404:
            return "check release.repo_id: owner/name, where the token belongs to the owner"
        return "try again later"


@contextmanager
def _causes_of_failed_uploads() -> Iterator[None]:
    """Raises the cause of a RuntimeError, in which the library wraps any error of an LFS upload."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


class _UncertainCommitError(Exception):
    """A commit was sent, but it is not known whether the Hub has it."""

    def __init__(self, reason: str, *, conflict: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.conflict = conflict
