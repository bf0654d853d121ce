"""What a task does that pulls: questions made and checked, drained side by side into one result, taken up after a kill."""
