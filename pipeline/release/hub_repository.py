"""Puts a release on the Hugging Face Hub as one commit, or finds out that it stands there already."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marginalia.pipeline.config.release import ReleaseSection
from marginalia.schemas.errors import InputError, MarginaliaError, ServiceError
from marginalia.schemas.hub_client import upload_to
from marginalia.schemas.key_masking import KeyMask

if TYPE_CHECKING:
    from huggingface_hub import HfApi

ATTEMPTS = 3
PAUSE = 2.0  # seconds before the Hub is asked whether the commit exists, doubled each time
KEPT = {".gitattributes"}  # the Hub's own file


@dataclass(frozen=True)
class Published:
    """Where the release stands. `attempts` counts the commits that were sent; 0 when nothing had changed."""

    commit: str
    url: str
    attempts: int


class HubRepository:
    """The data set repository `section.repo_id`. Every failure of the Hub becomes a ServiceError without the token."""

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
        """Makes the repository hold exactly the files of `folder` (and the Hub's own). `title` must be the same for the
        same content: it is how a commit is recognised whose answer was lost."""
        parent = self._prepare()
        gone = self._obsolete(folder, parent)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                commit = self._commit(folder, gone, title, parent)
            except _Unsure as unsure:
                time.sleep(PAUSE * 2 ** (attempt - 1))
                if found := self._find(title, parent):
                    return Published(found, self._url(found), attempt)
                if unsure.conflict:
                    raise ServiceError(
                        f"{self.repo_id} was changed by somebody else meanwhile", hint="look at it, then publish again"
                    ) from unsure
                last = unsure
            else:
                return Published(commit, self._url(commit), attempt if commit != parent else 0)
        raise ServiceError(
            f"the Hub did not take the commit in {ATTEMPTS} attempts: {last.what}",
            hint="nothing was published; try again later",
        ) from last

    def _prepare(self) -> str:
        """Makes the repository if there is none, sees to its privacy and gate, and returns its latest commit."""
        section = self._section
        info = self._info()
        if info is None:
            with self._wrapped("create the repository"):
                self._api.create_repo(self.repo_id, repo_type="dataset", private=section.private, exist_ok=True)
            info = self._info()
            if info is None:
                raise ServiceError(f"the Hub created {self.repo_id} and does not show it", hint="try again later")
        if section.private and not info.private:
            raise InputError(
                f"{self.repo_id} exists and is public, release.private is true",
                hint="make it private on the Hub, choose another release.repo_id, or set release.private: false",
            )
        wanted: Any = False if section.gated == "open" else section.gated
        if info.gated != wanted:
            with self._wrapped("set who may download"):
                self._api.update_repo_settings(self.repo_id, repo_type="dataset", gated=wanted)
        return str(info.sha)

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
        """Files on the Hub that the release no longer has. Refuses a repository that holds something else."""
        with self._wrapped("list the repository's files"):
            there = set(self._api.list_repo_files(self.repo_id, repo_type="dataset", revision=parent)) - KEPT
        if there - {"README.md"} and "release.json" not in there:
            raise InputError(
                f"{self.repo_id} holds files that are no release of ours: {', '.join(sorted(there)[:5])}",
                hint="choose another release.repo_id",
            )
        here = {item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file()}
        return sorted(there - here)

    def _commit(self, folder: Path, gone: list[str], title: str, parent: str) -> str:
        import httpx2
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        # made anew for each attempt: the client marks operations that it has sent
        files = sorted(item for item in folder.rglob("*") if item.is_file())
        operations: list[Any] = [CommitOperationDelete(path) for path in gone]
        operations += [CommitOperationAdd(file.relative_to(folder).as_posix(), str(file)) for file in files]
        with self._wrapped("commit"):
            try:
                made = self._api.create_commit(
                    self.repo_id, operations, commit_message=title, repo_type="dataset", parent_commit=parent
                )
            except HfHubHTTPError as error:
                if error.response.status_code == 412:
                    raise _Unsure("the repository has moved on", conflict=True) from error
                if error.response.status_code >= 500:
                    raise _Unsure(f"HTTP {error.response.status_code}") from error
                raise
            except httpx2.RequestError as error:
                raise _Unsure(type(error).__name__) from error
        return made.oid

    def _find(self, title: str, parent: str) -> str | None:
        """The commit with this title made after `parent`."""
        with self._wrapped("ask whether the commit exists; it may have been made, so look before you publish again"):
            for commit in self._api.list_repo_commits(self.repo_id, repo_type="dataset"):
                if commit.commit_id == parent:
                    return None
                if commit.title == title:
                    return commit.commit_id
        return None

    def _url(self, commit: str) -> str:
        return f"{self._api.endpoint}/datasets/{self.repo_id}/commit/{commit}"

    @contextmanager
    def _wrapped(self, doing: str) -> Iterator[None]:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            yield
        except (_Unsure, MarginaliaError):
            raise
        except OfflineModeIsEnabled as error:
            raise ServiceError(f"cannot {doing}: offline mode is on", hint="unset HF_HUB_OFFLINE") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            said = error.server_message or error.response.reason_phrase
            raise ServiceError(
                f"the Hub refused to {doing} ({self.repo_id}): HTTP {status} {self._scrubbed(said)}",
                hint=self._remedy(status),
            ) from None  # the library's error prints the request
        except (KeyError, TypeError, AttributeError, RecursionError):  # JSON, and not the Hub's
            raise ServiceError(
                f"cannot {doing} at {self._api.endpoint}: it does not answer as the Hub does",
                hint="check release.endpoint",
            ) from None
        except (httpx2.RequestError, ValueError, OSError) as error:
            what = self._scrubbed(str(error)) or type(error).__name__
            raise ServiceError(
                f"cannot {doing} at {self._api.endpoint}: {what}", hint="check the network and release.endpoint"
            ) from None

    def _scrubbed(self, text: str) -> str:
        return " ".join(self._safe(text, limit=None).split())

    def _remedy(self, status: int) -> str:
        if status == 401:
            return (
                f"the token in {self._section.token_env} is not valid; make one at {self._api.endpoint}/settings/tokens"
            )
        if status == 403:
            return f"the token in {self._section.token_env} may not write there; give it write access to {self.repo_id}"
        if status == 404:
            return "check release.repo_id: owner/name, an owner that the token belongs to"
        return "try again later"


class _Unsure(Exception):
    """A commit was sent and it is not known whether it was made."""

    def __init__(self, what: str, *, conflict: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.conflict = conflict
