"""DBOS on SQLite: `python -m bench.programs.dbos_agent FOLDER RUNS`."""

from __future__ import annotations

import sys
from pathlib import Path

from dbos import DBOS

from bench.programs.measuring import ITERATIONS, MESSAGES, measured, talk

_WARM_UP_RUNS = 10
Messages = list[tuple[str, str]]


@DBOS.step()
def model(messages: Messages) -> tuple[str, str]:
    """Two turns that call the tool, and an answer, at once."""
    turn = (len(messages) - MESSAGES) // 2
    return ("call", f"word {turn}") if turn < ITERATIONS - 1 else ("assistant", "It is what it is.")


@DBOS.step()
def look_up(key: str) -> tuple[str, str]:
    return ("tool", f"the meaning of {key}")


@DBOS.workflow()
def agent(messages: Messages) -> str:
    messages = list(messages)
    while True:
        reply = model(messages)
        messages.append(reply)
        if reply[0] == "assistant":
            return str(reply[1])
        messages.append(look_up(reply[1]))


def main() -> None:
    folder, runs = Path(sys.argv[1]), int(sys.argv[2])
    database = f"sqlite:///{folder / 'dbos.sqlite'}"
    DBOS(config={"name": "bench", "system_database_url": database, "log_level": "WARNING", "run_admin_server": False})
    DBOS.launch()
    said = talk()
    for _ in range(_WARM_UP_RUNS):
        agent(said)
    with measured():
        for _ in range(runs):
            agent(said)
    DBOS.destroy()


if __name__ == "__main__":
    main()
