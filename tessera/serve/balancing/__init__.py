"""One model on several devices: which replica answers which request, and what happens when one fails."""
