"""Calls to the LLM that writes, and the bundled one."""
