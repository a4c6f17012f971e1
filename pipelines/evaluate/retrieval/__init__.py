"""What the task `retrieval` needs beside its ranks: what is known of the images, and what their texts say."""
