"""Speed and quality, measured: each script writes `results/NAME.json` and `NAME.md`."""
