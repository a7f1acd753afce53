"""The policy that plays: models, chat template, generation, rollouts, evaluation."""

import logging

# Said at every import on a CPU: that 4-bit products could be faster with one more package.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
