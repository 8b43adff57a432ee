# %% ../../nbs/2_model/21_features.ipynb #1b258629
import os, tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ..core import DataError, cache_folder, digest_json, need, progress, write_atomic
from .manifest import Manifest
from .preprocess import Preprocess

# %% ../../nbs/2_model/21_features.ipynb #77767da7
class Rows:
    "Rows of several arrays on disk, read when they are asked for."
    def __init__(self,
        arrays:list, # memory-mapped, of rows of one shape
        places:np.ndarray, # `(n,2)` int: which array, which row
        shape:tuple, # of one row
        dtype, # of the rows
    ): self.arrays, self.places, self.shape, self.dtype = arrays, places.reshape(-1, 2), (len(places), *shape), np.dtype(dtype)
    def __len__(self): return len(self.places)
    def __getitem__(self,
        index, # a number, a slice, numbers, or a mask
    ) -> np.ndarray: # one row, or `(k,*shape)`
        "Read rows, in the order of the index."
        places = self.places[index]
        if places.ndim == 1: return np.array(self.arrays[places[0]][places[1]])
        found = np.empty((len(places), *self.shape[1:]), self.dtype)
        for array in np.unique(places[:, 0]):
            here = places[:, 0] == array
            found[here] = self.arrays[array][places[here, 1]]
        return found
    def __array__(self, dtype=None, copy=None): return self[:] if dtype is None else self[:].astype(dtype)
    def __repr__(self): return f"Rows {self.shape} {self.dtype} in {len(self.arrays)} arrays"

# %% ../../nbs/2_model/21_features.ipynb #d72cf117
class Store:
    "Rows of one shape and dtype, kept by the digest of what they were made from."
    def __init__(self,
        folder, # private
        shape:tuple, # of one row
        dtype, # of the rows
    ): self.folder, self.shape, self.dtype = Path(folder), tuple(shape), np.dtype(dtype)

    def find(self,
        contents, # n digests; one may stand twice
    ) -> dict: # content to (name of an array, row)
        "Where the rows are that are known."
        wanted, known = set(contents), {}
        for names in sorted(self.folder.glob("*.txt")):
            if wanted and names.with_suffix(".npy").exists():
                known |= {c: (names.stem, i) for i, c in enumerate(names.read_text().split()) if c in wanted}
                wanted -= known.keys()
        return known
    def missing(self, contents) -> np.ndarray: # numbers of the contents that are not known, each once
        known, first = self.find(contents), {}
        for i, c in enumerate(contents): first.setdefault(c, i)
        return np.array([i for c, i in first.items() if c not in known], int)
    def rows(self, contents) -> Rows: # one a content, in their order
        "The rows of contents that are all known."
        known = self.find(contents)
        lost = [c for c in contents if c not in known]
        if lost: raise DataError(f"expected {lost[0][:12]} in {self.folder.name}, but it holds {len(known)} of {len(contents)}; extract the features again")
        names = sorted({name for name, _ in known.values()})
        number, arrays = {name: i for i, name in enumerate(names)}, [np.load(self.folder/f"{name}.npy", mmap_mode="r") for name in names]
        return Rows(arrays, np.array([(number[known[c][0]], known[c][1]) for c in contents], int), self.shape, self.dtype)

    def add(self, contents, values): # n digests; `(n,*shape)`
        "Keep new rows."
        name = digest_json(list(contents))[:32]
        handle, part = tempfile.mkstemp(".npy", ".", self.folder)
        try:
            with os.fdopen(handle, "wb") as file: np.save(file, np.asarray(values, self.dtype).reshape(-1, *self.shape))
            write_atomic(self.folder/f"{name}.txt", "\n".join(contents))
            os.replace(part, self.folder/f"{name}.npy")
        finally: Path(part).unlink(missing_ok=True)
    @contextmanager
    def adding(self, size:int=512): # rows in one array
        "A function that keeps rows; what waits is written at the end, whatever ends it."
        contents, values = [], []
        def flush():
            if contents: self.add(contents, np.concatenate(values)); contents.clear(); values.clear()
        def keep(some, rows):
            contents.extend(some); values.append(rows)
            if len(contents) >= size: flush()
        try: yield keep
        finally: flush()

# %% ../../nbs/2_model/21_features.ipynb #bd521acd
def _ahead(make, items, depth=4):
    "(item, result) in order, made by as many threads as there are cores, a few items ahead."
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(make, item)))
                if len(waiting) >= threads + depth: item, job = waiting.popleft(); yield item, job.result()
            while waiting: item, job = waiting.popleft(); yield item, job.result()
        finally: pool.shutdown(wait=False, cancel_futures=True)

decode_ahead = _ahead
