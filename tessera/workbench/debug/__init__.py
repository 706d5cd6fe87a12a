"""The debugger in the terminal: its commands, and how it shows what it finds."""
