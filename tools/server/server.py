"""A headless ComfyUI with the pack on a free port, for the tests, the demo and the benchmarks.

with Server(Path("somewhere")) as server:
    run = server.run(prompt).succeeded()
"""

import contextlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import requests

from tools.server.events import Event, EventListener
from tools.server.folder import ROOT, comfyui_folder
from tools.server.run import ComfyUIError, PromptRejectedError, Run, run_from_history

__all__ = ["ComfyUIError", "Event", "PromptRejectedError", "Run", "Server"]

FOLDERS = ("custom_nodes", "input", "output", "models", "user")
"""Folders that ComfyUI expects in its base directory."""
LOG_NAME = "server.log"
START_SECONDS = 900.0
"""Maximum seconds for a start, which takes seconds on a free machine and minutes on a busy one."""
PORT_TAKEN = "while attempting to bind on address"
ANSWER_SECONDS = 300.0
ENDING_SECONDS = 10.0
"""Maximum seconds between the closing of a dying server's connections and its end."""
RUN_SECONDS = 3600.0
LAUNCH = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (os.read(0, 1), os._exit(1)), daemon=True).start()
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Program that runs main.py and ends when standard input closes, so that no server outlives its parent process."""


class Server:
    """A ComfyUI on this machine, from `start` or `with` until `stop`; it can be started again on the same folder.

    It loads only the packs in the folder's custom_nodes.
    """

    def __init__(
        self,
        base_directory: Path,
        pack_name: str = "setandseq",
        *,
        cpu: bool = True,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Make the folder and put a link to the pack into it.

        Args:
            base_directory: ComfyUI's models, input, output, user and custom_nodes; missing folders are created.
            pack_name: the name of the pack's folder in custom_nodes; "" leaves the pack out.
            cpu: compute on the CPU even if there is a GPU.
            options: more options of ComfyUI's command line.
            environment: more environment variables.
        Raises:
            NoComfyUIError: there is no ComfyUI.
        """
        self.folder = base_directory.resolve()
        self.port = 0
        self._main = comfyui_folder() / "main.py"
        self._options = [*(["--cpu"] if cpu else []), *options]
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._events: EventListener | None = None
        self._client_id = uuid.uuid4().hex
        self._cancelled: set[str] = set()
        self._log_start = 0
        self._session = requests.Session()
        self._session.trust_env = False  # ignores proxies, because the server is on this machine
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if pack_name and not (self.folder / "custom_nodes" / pack_name).exists():
            (self.folder / "custom_nodes" / pack_name).symlink_to(ROOT, target_is_directory=True)

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ComfyUIError: the server died or did not answer in time; the message holds the end of its log.
        """
        if self._process is not None:
            raise ComfyUIError("This server runs already.")
        try:
            came_up = False
            while not came_up:  # if another program took the port, the next start gets another one
                came_up = self._came_up()
            self._events = EventListener(self.address, self._client_id, ANSWER_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server, whatever it is doing; does nothing if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if self._events is not None:
            self._events.join()
            self._events = None
        self._session.close()

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.stop()

    def restart(self) -> None:
        """Start a new server on the same folder: files stay, but everything in ComfyUI's memory is gone."""
        self.stop()
        self.start()

    def resident_mib(self) -> float:
        """Memory of the server's process, in MiB; Linux only."""
        if self._process is None:
            raise ComfyUIError("This server does not run.")
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def log_text(self) -> str:
        """The server's output since its last start."""
        log = self.folder / LOG_NAME
        return log.read_bytes()[self._log_start :].decode(errors="replace") if log.exists() else ""

    def object_info(self) -> dict[str, Any]:
        """ComfyUI's description of each node, by node id."""
        return self.get("object_info")

    def queue(self, prompt: Mapping[str, Any]) -> str:
        """Queue a prompt and return its id.

        Raises:
            PromptRejectedError: validation found faults, even if they affect only one of several outputs.
        """
        answer = self._request("POST", "prompt", {"prompt": prompt, "client_id": self._client_id})
        if answer.status_code == 400:
            raise PromptRejectedError(answer.json())
        answer.raise_for_status()
        content = answer.json()
        if content["node_errors"]:  # without this, the other outputs would run
            self.interrupt(content["prompt_id"])
            raise PromptRejectedError(content)
        return content["prompt_id"]

    def wait(self, prompt_id: str, timeout: float = RUN_SECONDS) -> Run:
        """Wait for the end of a prompt, however it ends.

        Raises:
            ComfyUIError: the server died, or knows no such prompt.
            TimeoutError: the prompt has not ended after `timeout` seconds; it continues to run.
        """
        deadline = monotonic() + timeout
        while True:
            queued = self._is_queued(prompt_id)
            found = self.get(f"history/{prompt_id}").get(prompt_id)
            if found is not None:
                return run_from_history(prompt_id, found)
            if not queued and prompt_id in self._cancelled:
                return Run(status="interrupted", prompt_id=prompt_id, error="cancelled before it ran")
            if not queued:
                raise ComfyUIError(f"Prompt {prompt_id} is neither in the queue nor in the history of {self.address}.")
            if monotonic() > deadline:
                raise TimeoutError(f"Prompt {prompt_id} has not ended after {timeout:.0f} s.")
            sleep(0.25)

    def run(self, prompt: Mapping[str, Any], timeout: float = RUN_SECONDS) -> Run:
        """Queue a prompt and wait for its end; a rejected prompt also gives a `Run`."""
        try:
            return self.wait(self.queue(prompt), timeout)
        except PromptRejectedError as rejected:
            return rejected.as_run()

    def follow(self, prompt_id: str, timeout: float = RUN_SECONDS) -> Iterator[Event]:
        """The server's messages about a prompt, from its start to its end, as they come.

        Raises:
            ComfyUIError: the server died.
            TimeoutError: the prompt has not ended after `timeout` seconds; it continues to run.
        """
        if self._events is None:
            raise ComfyUIError("This server does not run.")
        ended = False
        for event in self._events.follow(prompt_id, timeout):
            ended = event.ends_prompt
            yield event
        if not ended:
            self._check_alive(ENDING_SECONDS)
            raise ComfyUIError(self._with_log("ComfyUI closed the connection."))

    def interrupt(self, prompt_id: str = "") -> None:
        """Cancel the running prompt, or the named one, whether it is running or waiting."""
        if prompt_id:
            self._cancelled.add(prompt_id)
            self._request("POST", "queue", {"delete": [prompt_id]}).raise_for_status()
            if self._events is not None and self._is_queued(prompt_id):
                next(
                    self._events.follow(prompt_id, ANSWER_SECONDS), None
                )  # a prompt's start would undo an earlier interrupt
        self._request("POST", "interrupt", {"prompt_id": prompt_id} if prompt_id else {}).raise_for_status()

    def clear(self) -> None:
        """Cancel the running prompt and forget the waiting ones, whoever queued them."""
        self._request("POST", "queue", {"clear": True}).raise_for_status()
        self._request("POST", "interrupt", {}).raise_for_status()

    def files(self, run: Run) -> dict[str, list[Path]]:
        """The files that a run saved or showed, by node id."""
        folders = {"output": self.folder / "output", "temp": self.folder / "temp", "input": self.folder / "input"}
        found: dict[str, list[Path]] = {}
        for node, output in run.outputs.items():
            for entry in (entry for entries in output.values() if isinstance(entries, list) for entry in entries):
                if isinstance(entry, dict) and "filename" in entry:
                    file = folders[entry.get("type", "output")] / entry.get("subfolder", "") / entry["filename"]
                    found.setdefault(node, []).append(file)
        return found

    def memory(self, field: str) -> float:
        """Memory of the server in MiB, on Linux: "VmRSS" is the current value, "VmHWM" the peak."""
        lines = self._process_file("status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    def reset_peak_memory(self) -> None:
        """Measure the peak from now on."""
        self._process_file("clear_refs").write_text("5")

    def processor_seconds(self) -> float:
        """Processor time that the server has used since its start, on Linux."""
        fields = self._process_file("stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def get(self, path: str) -> Any:
        """The JSON answer to a GET of this path."""
        answer = self._request("GET", path)
        answer.raise_for_status()
        return answer.json()

    def _came_up(self) -> bool:
        """Start the server and wait; return False if it ended because its port was taken in the meantime."""
        deadline = monotonic() + START_SECONDS
        self._launch()
        while not self._answers():
            if PORT_TAKEN in self.log_text():
                self.stop()
                return False
            self._check_alive()
            if monotonic() > deadline:
                raise ComfyUIError(self._with_log(f"ComfyUI did not come up within {START_SECONDS:.0f} s."))
            sleep(0.2)
        return True

    def _launch(self) -> None:
        self.port = free_port()
        packs = sorted(path.name for path in (self.folder / "custom_nodes").iterdir() if path.name != "__pycache__")
        options = [f"--port={self.port}", f"--base-directory={self.folder}", "--database-url=sqlite:///:memory:"]
        options += ["--disable-api-nodes", "--disable-all-custom-nodes", *self._options]
        options += ["--whitelist-custom-nodes", *packs] if packs else []
        log = self.folder / LOG_NAME
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", LAUNCH, str(self._main), *options],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops the server
            )

    def _answers(self) -> bool:
        """Whether this server answers, and not another one that took the port."""
        with contextlib.suppress(requests.RequestException):
            answer = self._session.get(f"{self.address}/system_stats", timeout=ANSWER_SECONDS)
            return answer.ok and f"--base-directory={self.folder}" in answer.json()["system"]["argv"]
        return False

    def _is_queued(self, prompt_id: str) -> bool:
        queue = self.get("queue")
        return any(entry[1] == prompt_id for entry in [*queue["queue_running"], *queue["queue_pending"]])

    def _request(self, method: str, path: str, content: Any = None) -> requests.Response:
        try:
            return self._session.request(method, f"{self.address}/{path}", json=content, timeout=ANSWER_SECONDS)
        except requests.RequestException as error:
            self._check_alive(ENDING_SECONDS)
            raise ComfyUIError(self._with_log(f"ComfyUI at {self.address} does not answer.")) from error

    def _process_file(self, name: str) -> Path:
        self._check_alive()
        assert self._process is not None
        return Path("/proc") / str(self._process.pid) / name

    def _check_alive(self, patience: float = 0.0) -> None:
        if self._process is None:
            raise ComfyUIError("This server does not run.")
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(patience)
            raise ComfyUIError(self._with_log(f"ComfyUI ended with exit status {status}."))

    def _with_log(self, message: str) -> str:
        tail = "\n".join(self.log_text().splitlines()[-30:])
        return f"{message} The end of its log, {self.folder / LOG_NAME}:\n{tail}"


def free_port() -> int:
    """A port of this machine that is not in use now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
