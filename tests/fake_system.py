"""A system for the benchmarks' driver: no library, and it fails in the ways that real ones do."""

import os
import socket
import sys
import time
from pathlib import Path


class Fake:
    """Writes its name into ``log`` at each call; ``fault`` says what goes wrong, in call ``at``."""

    def __init__(self, log: str, name: str, fault: str = "", at: int = 0) -> None:
        print("a library greets on stdout")
        self.log, self.name, self.fault, self.at = Path(log), name, fault, at
        self.calls = 0
        self._step()

    def timed(self, value: int) -> dict[str, int]:
        print("and chatters")
        self.calls += 1
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{self.name}\n")
        self._step()
        return {"twice": 2 * value, "threads": int(os.environ["OMP_NUM_THREADS"])}

    def _step(self) -> None:
        if self.calls != self.at or not self.fault:
            return
        if self.fault == "raise":
            raise ValueError(f"cannot open {self.log}\nand a second line")
        if self.fault == "die":
            print("out of luck", file=sys.stderr)
            sys.stderr.flush()
            os._exit(3)
        if self.fault == "sleep":
            time.sleep(60)
        if self.fault == "connect":
            socket.create_connection(("127.0.0.1", 9))
