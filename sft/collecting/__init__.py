"""Parts of `python -m sft.collect`: the loop, the person beside it, and the file it writes."""
