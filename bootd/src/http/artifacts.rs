//! Artifacts like a read-only S3 service.
