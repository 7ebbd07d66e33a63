"""A local Argilla server: `control` starts, stops and looks after it; `inside` is what runs in its own environment."""
