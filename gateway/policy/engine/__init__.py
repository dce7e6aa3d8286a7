"""What an identity may do on a topic: rules, topic tree, decisions. Sans-I/O."""
