"""Dictionaries on the Hugging Face Hub: `push` publishes one with its page, `pull` opens one, whoever trained it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otoscope.dictionaries.formats.found import GENERIC
from otoscope.dictionaries.formats.model_card import model_card, read_scorecard
from otoscope.dictionaries.formats.opening import load_dictionary
from otoscope.dictionaries.formats.saelens import ARCHITECTURES, export, save_dictionary
from otoscope.errors import InputError, OtoscopeError

if TYPE_CHECKING:
    from otoscope.dictionaries.dictionary import Dictionary

SCORECARD = "scorecard.json"
_PATTERNS = ("*.json", "*.safetensors", "*.pt", "*.pth")
"""What is downloaded of a repository: nothing that could be code."""


def push(
    dictionary: Dictionary,
    repo: str,
    path: str | None = None,
    *,
    licence: str = "mit",
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    scorecard: str | os.PathLike[str] | None = None,
) -> str:
    """Publish a dictionary as a folder of a repository (made if it does not exist); return the address of its page.

    The folder is SAELens' wherever SAELens has the architecture. The page (a model card) is the repository's own
    `README.md` if it has none yet, and lies in the folder in any case.

    Args:
        dictionary: what to publish.
        repo: `user/name`.
        path: the folder in it; None: the dictionary's name.
        licence: a licence as the Hub names them.
        private: whether a new repository is visible to its owner only.
        token: of the Hub; None: as `hf auth login` left it.
        endpoint: address of another hub; None: `$HF_ENDPOINT`, else the public one.
        scorecard: a `scorecard.json` to publish beside it.

    Raises:
        InputError: the name of the repository is none, or may not be written.
        OtoscopeError: the Hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    path = path or dictionary.name
    _check_path(path)
    figures = None if scorecard is None else read_scorecard(Path(scorecard))
    card = model_card(dictionary, repo=repo, path=path, licence=licence, scorecard=figures)
    with _plain_errors(repo), tempfile.TemporaryDirectory() as temporary:
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo, private=private, exist_ok=True)
        folder = Path(temporary) / path
        (export if dictionary.kind in ARCHITECTURES else save_dictionary)(dictionary, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        if scorecard is not None:
            (folder / SCORECARD).write_bytes(Path(scorecard).read_bytes())
        if not api.file_exists(repo, "README.md"):
            (Path(temporary) / "README.md").write_text(card, encoding="utf-8")
        api.upload_folder(repo_id=repo, folder_path=temporary, commit_message=f"Dictionary {dictionary.name}")
        return f"{api.endpoint}/{repo}/tree/main/{path}"


def pull(
    repo: str,
    path: str | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    format: str | None = None,
    **given: Any,
) -> Dictionary:
    """Open a dictionary of the Hub, of any format that `load_dictionary` reads; what is cached is not loaded again.

    Args:
        repo: `user/name`.
        path: the folder or file in it; None: the repository is one dictionary, or has one folder with one.
        revision: a branch, tag or commit.
        token: of the Hub; None: as `hf auth login` left it.
        endpoint: address of another hub; None: `$HF_ENDPOINT`, else the public one.
        format: see `load_dictionary`, which takes what else is `given` (`site`, `k`, `threshold`, `normalisation`).

    Raises:
        InputError: there is no such repository or path, or several dictionaries and none was chosen.
        OtoscopeError: the Hub cannot be reached and the dictionary is not in the local cache, or it is damaged.
    """
    from huggingface_hub import HfApi

    if path is not None:
        _check_path(path)
    wanted = list(_PATTERNS) if path is None else [f"{path.rstrip('/')}/{each}" for each in _PATTERNS] + [path]
    with _plain_errors(repo):
        api = HfApi(endpoint=endpoint, token=token)
        folder = Path(str(api.snapshot_download(repo, revision=revision, allow_patterns=wanted)))
    place = folder / path if path is not None else _only_dictionary(folder, repo)
    if not place.exists():
        raise InputError(f"The repository {repo!r} has no dictionary at {path!r}.")
    dictionary = load_dictionary(place, format, **given)
    if path is None and (place == folder or place.name in GENERIC):
        dictionary.name = repo.rpartition("/")[2]
    dictionary.metadata["hub"] = {"repo": repo, "path": path, "revision": folder.name}
    return dictionary


def _only_dictionary(folder: Path, repo: str) -> Path:
    """The folder of the only dictionary below `folder`."""
    marks = ("sae_weights.safetensors", "sae.safetensors", "ae.pt", "bestval.pth")
    places = sorted({file.parent for mark in marks for file in folder.rglob(mark)})
    if len(places) > 1:
        names = [str(place.relative_to(folder)) for place in places]
        listed = ", ".join(names if len(names) < 8 else [*names[:6], "…"])
        raise InputError(
            f"The repository {repo!r} has {len(places)} dictionaries ({listed}); "
            "choose one with path (--path on the command line)."
        )
    return places[0] if places else folder


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", "..", ".") for part in parts) or "*" in path:
        raise InputError(f"{path!r} is no path inside a repository, as in 'layer_3' or 'sae-2/l0-16'.")


@contextlib.contextmanager
def _plain_errors(repo: str) -> Iterator[None]:
    """Turn errors of the Hub's client into one sentence."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise InputError(f"{repo!r} is no name of a repository on the Hugging Face Hub, as in 'user/name'.") from error
    except LocalTokenNotFoundError as error:
        raise InputError(f"{repo!r} needs a token of the Hugging Face Hub; log in with `hf auth login`.") from error
    except (GatedRepoError, RevisionNotFoundError) as error:
        raise InputError(f"The Hugging Face Hub does not give out {repo!r}: {_first_line(error)}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"The Hugging Face Hub has no repository {repo!r} that you may use; if it is private, log in with "
            "`hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, HfHubHTTPError):
            raise _refusal(error, repo) from error
        raise _unreachable(repo) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2"):  # which of them depends on its release
            raise _unreachable(repo) from error
        raise


def _unreachable(repo: str) -> OtoscopeError:
    return OtoscopeError(f"The Hugging Face Hub cannot be reached for {repo!r}; connect and try again.")


def _refusal(error: Any, repo: str) -> OtoscopeError:
    denied = error.response is not None and error.response.status_code in (401, 403)
    kind, advice = (InputError, "; log in with `hf auth login`") if denied else (OtoscopeError, "")
    return kind(f"The Hugging Face Hub refused {repo!r}: {_first_line(error)}{advice}")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
