"""A system in a process of its own: ``python -m benchmarks.worker MODULE CLASS OPTIONS``.

It loads the system, then answers lines of JSON with lines of JSON: ``["timed", {"texts": ...}]``
calls that method. Whatever a library prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import traceback
from typing import Any, TextIO


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not write among the answers
    _refuse_network()
    module, name, options = sys.argv[1:]
    system: Any = None

    def load() -> dict[str, Any]:
        nonlocal system
        system = getattr(importlib.import_module(module), name)(**json.loads(options))
        return {"pid": os.getpid()}

    _answer(answers, load, {})
    for line in sys.stdin:
        command, arguments = json.loads(line)
        _answer(answers, getattr(system, command), arguments)


def _answer(answers: TextIO, call: Any, arguments: dict[str, Any]) -> None:
    try:
        answer = {"answer": call(**arguments)}
    except BaseException as exc:  # whatever it is, it is this system's result
        traceback.print_exc()
        lines = str(exc).strip().splitlines() or [""]
        answer = {"failed": f"{type(exc).__name__}: {lines[0]}"}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _refuse_network() -> None:
    """No system reaches out while it is measured, and OpenVINO's telemetry is not there at all."""

    def refuse(*_: Any) -> Any:
        raise OSError("a benchmark's system may not use the network")

    for method in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, method, refuse)
    setattr(socket, "getaddrinfo", refuse)  # noqa: B010  it is another's attribute
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    main()
