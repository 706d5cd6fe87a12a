"""What was tuned: records of configurations, their files, the order of trying, and what to take."""
