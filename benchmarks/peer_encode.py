"""Times ``SentenceTransformer.encode`` alone, in a process of its own.

``python -m benchmarks.peer_encode TEXTS.json MODEL_FOLDER`` prints JSON. Importing the library,
loading the model and reading the texts are not timed; arguments of ``encode`` are its defaults.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    import torch
    from sentence_transformers import SentenceTransformer

    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = SentenceTransformer(sys.argv[2])
    began = time.perf_counter()
    model.encode(texts)
    seconds = time.perf_counter() - began
    facts = {"seconds": seconds, "threads": torch.get_num_threads(), "device": str(model.device)}
    print(json.dumps({**facts, "max_length": model.max_seq_length}))


if __name__ == "__main__":
    main()
