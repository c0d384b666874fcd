"""Search test collections with a checkpoint and print how well: a row per language of each.

    python examples/retrieval.py --checkpoint FOLDER nfcorpus tydiqa-goldp-sw tatoeba-deu [--output FOLDER]

Names as `hybridlib.corpora.catalogue` knows them; files come from $HYBRIDLIB_DATA or the hub (DATA.md). With --output
the results lie there: a row per query, TREC files, and finished shards, so that a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hybridlib.corpora import catalogue
from hybridlib.encoder import Encoder
from hybridlib.retrieval import MEASURES, measure, write_qrels, write_run
from hybridlib.search import search


def main() -> None:
    """Search, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("collections", nargs="+", help="names such as nfcorpus, miracl-sw, tatoeba-deu")
    parser.add_argument("--checkpoint", required=True, help="folder or name on the hub")
    parser.add_argument("--output", type=Path, help="folder for results (None: only print)")
    parser.add_argument("--depth", type=int, default=1000, help="passages per query")
    options = parser.parse_args()
    encoder = Encoder.load(options.checkpoint)
    for name in options.collections:
        for collection in catalogue.load(name):
            with tempfile.TemporaryDirectory() as temporary:
                folder = options.output / collection.name if options.output else Path(temporary)
                queries = collection.queries["text"].to_pylist()
                hits = search(collection.passages, encoder, queries, options.depth, folder / "search", progress=True)
                found = measure(collection, hits, MEASURES)
                print(f"{collection.name}: {len(collection.passages)} passages\n{found.means().to_string(index=False)}")
                if options.output:
                    found.save(folder)
                    write_run(collection, hits, folder / "run.gz")
                    write_qrels(collection, folder / "qrels.gz")


if __name__ == "__main__":
    main()
