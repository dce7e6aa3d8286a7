"""What holds for everybody: proved, compared with another policy, and explained."""
