"""A local Argilla server: `server_control` starts and stops it; `inside` is the code that runs in the server's own
environment."""
