"""What makes the evidence of the project itself: the main job, the soak, the witnesses that come with the package."""
