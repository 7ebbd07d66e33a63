"""A local Argilla server: `server_control` starts, stops and looks after it; `inside` is what runs in its own
environment."""
