"""From texts, pictures, sounds and clips to one matrix of vectors per modality."""
