//! `import` and `worker` on the embedded queue.

mod beside;
mod full_disk;
mod hanging_disk;
mod import_worker;
mod one_person;
