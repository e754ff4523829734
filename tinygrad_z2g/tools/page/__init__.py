"""Pages to look at and to share: `page(model, tokenizer, "gpt.html")`, a trained GPT that runs in the browser, and
`play(loss, "backprop.html")`, the backward pass step by step. This file re-exports, and knows nothing of how they work.
"""

from .film import play
from .model import page
