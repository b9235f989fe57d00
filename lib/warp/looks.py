"""STUB by the lead, to be overwritten by helper A."""
from dataclasses import dataclass
import numpy as np
@dataclass(frozen=True)
class MixItem:
    template: str; colour: str = ""; texture: str = ""; weight: float = 1.0
def parse_mix(text):
    return tuple(MixItem(t.strip()) for t in text.split(","))
def draw_item(rng, mix):
    rng.random(); return mix[0]
def parse_colour(text):
    return tuple(int(text[i:i+2],16) for i in (1,3,5))
def reference(t): return 0.7
def texture_sheet(name, shape, scale=1.0): return np.full((*shape,3),128,np.uint8)
