"""What is looked at before a study begins: data, shapes, gradients, memory, time."""
