"""Writes the small PyTorch files that the tests of format/pickle read: pickle_fixtures.py DIR."""
import collections
import os
import pickle
import sys

import torch

out = sys.argv[1]
base = torch.arange(24, dtype=torch.float32)
tensors = collections.OrderedDict(
    plain=base.reshape(4, 6).clone(),
    shared_a=base[:12].reshape(3, 4),
    shared_b=base[6:18].reshape(4, 3),
    transposed=base.reshape(4, 6).t(),
    column=base.reshape(4, 6)[:, 2],
    scalar=torch.tensor(7.5),
    empty=torch.zeros(0, 3),
    half=base[:6].half(),
    bfloat=base[:6].bfloat16(),
    double=base[:6].double(),
    long=torch.arange(-3, 3),
    int8=torch.arange(-3, 3, dtype=torch.int8),
    bool=torch.tensor([True, False, True]),
    parameter=torch.nn.Parameter(base[:4].clone()),
    note="not a tensor",
)
torch.save(tensors, os.path.join(out, "zip.pt"))
torch.save(tensors, os.path.join(out, "legacy.pt"), _use_new_zipfile_serialization=False)
torch.save({"epoch": 3, "state_dict": {"w": base[:4].clone()}}, os.path.join(out, "wrapped.pt"))
torch.save({"f8": base[:6].to(torch.float8_e4m3fn), "u16": base[:6].to(torch.uint16)}, os.path.join(out, "new_types.pt"))


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


torch.save({"w": base[:4].clone(), "evil": Evil()}, os.path.join(out, "evil.pt"))
torch.save({"w": base[:4].clone(), "evil": Evil()}, os.path.join(out, "evil_legacy.pt"), _use_new_zipfile_serialization=False)
