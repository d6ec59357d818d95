"""What processes say to each other: generated protos, the event catalogue, shared wire shapes and who may call whom."""
