"""Topic `delay`: asking the scheduler, the store that is a cache of the topic, and listing what is pending."""
