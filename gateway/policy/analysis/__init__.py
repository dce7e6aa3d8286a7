"""What holds for everybody: proved, compared with a different policy, and explained."""
