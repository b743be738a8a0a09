"""What training minimises. Arrays only: similarities, overlaps and masks in, one number out."""
