"""Fine-tuning the demo guard. Needs the extra `train`; nothing at run time imports this package."""
