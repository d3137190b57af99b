"""Sending the files of a model to the Hugging Face Hub; what goes wrong there is one sentence."""

import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from handful.errors import UserError
from handful.progress import patience

#: What Hugging Face's storage, Xet, does where nobody answers: its client would ask for minutes, in silence.
_ATTEMPTS = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2", "HF_XET_CLIENT_RETRY_MAX_DURATION": "20s"}

#: Characters of what a server says that are quoted.
_QUOTED = 200


def check_repo_id(repo_id: str) -> None:
    """Refuse what is no name of a repository on the Hub.

    Raises:
        UserError: it is not OWNER/NAME, or the Hub would refuse it.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.errors import HFValidationError

    if repo_id.count("/") != 1:
        raise UserError(f"--repo_id: OWNER/NAME, not {repo_id!r}")
    try:
        hf_hub_url(repo_id, "README.md")  # checks the name
    except HFValidationError as error:
        raise UserError(f"--repo_id: {error}") from None


def upload(folder: Path, names: Sequence[str], repo_id: str, private: bool) -> str:
    """Create a repository of models where there is none, and commit files to it.

    Args:
        folder: where they are.
        names: of the files within it.
        repo_id: OWNER/NAME.
        private: whether a new repository is private.

    Returns:
        The repository's address.

    Raises:
        UserError: nobody is logged in, or may not write there; the Hub cannot be reached, refuses, or fails.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    waited = f"  {api.endpoint} has not taken everything yet; its client sends, and asks again where nobody answers"
    try:
        with _few_attempts(), _quiet(), patience(waited):
            api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id, folder_path=folder, allow_patterns=list(names), commit_message="Upload by Handful"
            )
    except Exception as error:  # of the network, the Hub and its client: as many kinds as their versions have
        raise UserError(f"push: {_reason(error, repo_id, api.endpoint)}; {folder} is ready") from error
    return f"{api.endpoint}/{repo_id}"


@contextmanager
def _few_attempts() -> Iterator[None]:
    """Xet's client, which reads this from the environment when it is imported, by the first upload, gives up soon."""
    added = {name: value for name, value in _ATTEMPTS.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the client's bars where nobody watches them, and without what it deprecates in its own libraries."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    hidden = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if hidden:
        disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        if hidden:
            enable_progress_bars()


def _reason(error: BaseException, repo_id: str, endpoint: str) -> str:
    """What went wrong, and what to do."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    chain = list(_causes(error))
    if any(isinstance(one, OfflineModeIsEnabled) for one in chain):
        return "nothing is sent while HF_HUB_OFFLINE is set; unset it"
    for one in chain:
        status = getattr(getattr(one, "response", None), "status_code", None)
        if isinstance(status, int):
            return _refusal(status, _quoted(getattr(one, "server_message", None) or one), repo_id, endpoint)
    # Xet, which is not written in Python, says the status in words
    if found := re.search(r"HTTP status \w+ error \((\d{3}) ?([^)]*)\)", str(chain[-1])):
        return _refusal(int(found[1]), found[2], repo_id, endpoint)
    refused = next((one for one in chain if type(one).__name__ in _UNREACHED or isinstance(one, ConnectionError)), None)
    if refused is not None:
        return f"{endpoint} cannot be reached ({_quoted(refused)}); check the network, and HF_ENDPOINT if it is set"
    return f"{type(error).__name__}: {_quoted(error)}"


#: Errors of httpx and requests where no answer comes.
_UNREACHED = (
    "ConnectError", "ConnectTimeout", "ReadTimeout", "ReadError", "WriteError", "RemoteProtocolError", "Timeout",
    "ConnectionError", "NameResolutionError", "ProxyError", "SSLError", "gaierror",
)  # fmt: skip


def _refusal(status: int, said: str, repo_id: str, endpoint: str) -> str:
    """An answer of the Hub as a sentence."""
    if status == 401:
        return "nobody is logged in, or the token is not valid (401); `hf auth login` with a token that may write"
    if status == 403:
        return f"the token may not write to {repo_id} (403: {said}); take one that may, or another --repo_id"
    if status == 404:
        return f"{endpoint} has no {repo_id} that this token may see (404: {said})"
    if status == 409:
        return f"{repo_id} was changed at the same time (409: {said}); run the command again"
    if status == 429:
        return f"too many requests (429: {said}); try again in some minutes"
    if status >= 500:
        return f"{endpoint} fails ({status}: {said}); try again later"
    return f"the Hub refuses the upload ({status}: {said})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _quoted(said: object) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
