"""LangGraph with its SQLite checkpointer: `python -m bench.programs.langgraph_agent FOLDER RUNS`."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from bench.programs.measuring import ITERATIONS, MESSAGES, measured, talk

_WARM_UP_RUNS = 10


def model(state: MessagesState) -> dict[str, Any]:
    """Two turns that call the tool, and an answer, at once."""
    turn = (len(state["messages"]) - MESSAGES) // 2
    if turn < ITERATIONS - 1:
        call = {"name": "look_up", "args": {"key": f"word {turn}"}, "id": f"call-{turn}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}
    return {"messages": [AIMessage("It is what it is.")]}


def tools(state: MessagesState) -> dict[str, Any]:
    (call,) = state["messages"][-1].tool_calls
    return {"messages": [ToolMessage(f"the meaning of {call['args']['key']}", tool_call_id=call["id"])]}


def main() -> None:
    folder, runs = Path(sys.argv[1]), int(sys.argv[2])
    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", tools)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    graph.add_edge("tools", "model")
    saver = SqliteSaver(sqlite3.connect(folder / "checkpoints.db", check_same_thread=False))
    saver.setup()
    agent = graph.compile(checkpointer=saver)
    said = [HumanMessage(text) if role == "user" else AIMessage(text) for role, text in talk()]

    def run(name: str) -> None:
        answer = agent.invoke({"messages": said}, {"configurable": {"thread_id": name}})
        if len(answer["messages"]) != MESSAGES + 2 * ITERATIONS - 1:
            raise SystemExit("LangGraph took other than three iterations")

    for number in range(_WARM_UP_RUNS):
        run(f"warm-{number}")
    with measured():
        for number in range(runs):
            run(f"run-{number}")


if __name__ == "__main__":
    main()
