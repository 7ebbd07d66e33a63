"""`marginalia demo`: every stage on this machine. Only its command imports this folder."""
