"""A GPU in software: runs PTX on the CPU, checks it and counts what it does."""
