"""What processes say to each other: protos, the event catalogue, shared shapes, and who may call whom."""
